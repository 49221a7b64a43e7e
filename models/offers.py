"""Offers as last read: what can be bought, where, at what price, and whether Heddle will use it."""

from datetime import datetime

from sqlmodel import Field, SQLModel


class OfferRow(SQLModel, table=True):
    """`usable` false: the offer fails closed (unknown or absurd price, unknown schema); `why_not` says so."""

    __tablename__ = "offer"
    id: str = Field(primary_key=True)
    provider: str
    region: str
    zone: str
    instance_type: str
    gpu: str
    gpu_count: int
    market: str
    price_usd_per_hour: float | None
    speed_ratio: float = 1.0
    usable: bool = True
    why_not: str = ""
    read_at: datetime
    refused_at: datetime | None = None
    lost_at: datetime | None = None
