"""A page of Dash with a callback."""

import pandas as pd
from dash import Dash, Input, Output, dcc, html

SALES = pd.DataFrame({"city": ["Bern", "Oslo", "Rome"], "sold": [12, 30, 21]})

app = Dash(__name__, title="Sales")
server = app.server
app.layout = html.Div([dcc.Dropdown(list(SALES.city), "Oslo", id="city"), html.P(id="sold")])


@app.callback(Output("sold", "children"), Input("city", "value"))
def sold(city: str) -> str:
    """What one city has bought."""
    return f"{city}: {SALES.loc[SALES.city == city, 'sold'].sum()}"
