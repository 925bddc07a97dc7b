"""What PostgreSQL, its driver and the network say, in sentences for people."""

import asyncpg

from statsvc.errors import StoreError


class told:  # noqa: N801 - reads as a statement: with told(where): …
    """Turn what the driver raises into StoreError, with the server's and the database's name."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        match exc:
            case TimeoutError():
                raise StoreError(f"{self._where} did not answer in time") from exc
            case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
                raise StoreError(f"{self._where} lets nobody in with this user and password: {exc}") from exc
            case asyncpg.InvalidCatalogNameError():
                raise StoreError(f"{self._where}: {exc}; `createdb` makes one") from exc
            case asyncpg.InsufficientPrivilegeError():
                raise StoreError(
                    f"{self._where}: {exc}; docs/fleet.md says what the user must be granted"
                ) from exc
            case asyncpg.TargetServerAttributeNotMatched() | asyncpg.ReadOnlySQLTransactionError():
                raise StoreError(f"{self._where} has no server that can be written to: {exc}") from exc
            case asyncpg.PostgresError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
                raise StoreError(f"{self._where}: {exc}") from exc
            case OSError():
                raise StoreError(f"{self._where} can't be reached: {exc.strerror or exc}") from exc
