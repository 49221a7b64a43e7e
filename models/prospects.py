"""What a drafted envelope is judged by, as the controller last knew it."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel


class ProspectRow(SQLModel, table=True):
    """A service's prospect of the next day, written over once an hour, in the form of
    `controller.core.prospect.packed`: facts and forecast as a document, a week of measured minutes compressed.
    """

    __tablename__ = "prospect"
    __table_args__ = (UniqueConstraint("service"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str
    at: datetime
    document: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    minutes: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
