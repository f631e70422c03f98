"""The reports resource: asked for here, made by the worker."""

from api.domain import reports
from api.domain.items import NotFoundError
from api.domain.reports import Report, ReportId
from api.services import services
from api.typed import Failure, Reply, Routes

routes = Routes("reports", prefix="/reports", failures={NotFoundError: Failure(404, "There is no such report.")})


@routes.post("")
def create_report() -> Reply[Report]:
    """Ask for a report.

    A worker makes it; look at it again until it is done.
    """
    with services().database.write() as session:
        report = reports.create(session)
    return Reply(report, headers={"Location": f"/reports/{report.id}"})


@routes.get("/<report_id>", NotFoundError)
def read_report(report_id: ReportId) -> Reply[Report]:
    """Read one report."""
    with services().database.read() as session:
        report = reports.read(session, report_id)
    return Reply(report, headers={"Cache-Control": "no-store"})
