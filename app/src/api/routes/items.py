"""The items resource."""

from api.domain import items
from api.domain.items import Item, ItemContent, ItemId
from api.problems import ApiError
from api.services import services
from api.typed import Reply, Routes

routes = Routes("items", prefix="/items")


@routes.post("", errors=[409])
def create_item(body: ItemContent) -> Reply[Item]:
    """Create an item."""
    try:
        with services().database.write() as session:
            item = items.create(session, body)
    except items.NameTakenError:
        raise ApiError(409, "Another item has this name.") from None
    return Reply(item, headers={"Location": f"/items/{item.id}"})


@routes.get("/<item_id>")
def read_item(item_id: ItemId) -> Item:
    """Read one item."""
    try:
        with services().database.read() as session:
            return items.read(session, item_id)
    except items.NotFoundError:
        raise ApiError(404, "There is no such item.") from None
