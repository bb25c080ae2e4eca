"""How a photo gets to the service: the documented form, or the ticket of its newer clients."""

from __future__ import annotations

from ..paid_jobs.clock import Cancelled, never
from ..paid_jobs.journal import Journal
from ..paid_jobs.transport import TransportError
from .answers import record
from .api import Api, Passing
from .errors import RemoteRejected
from .images import EncodedPhoto
from .jobs import RunOptions

USED_AGAIN_S = 24 * 3600
"""How long an uploaded photo serves further orders; the service deletes it after 7 days."""


def uploaded(
    api: Api, journal: Journal, account: str, photo: EncodedPhoto, options: RunOptions
) -> str:
    """The address of a photo, which is uploaded unless it was lately.

    Raises:
        As `upload`.
    """
    address = journal.uploaded_url(photo.digest, account, USED_AGAIN_S)
    if address is None:
        options.report("uploading", None)
        address = upload(api, photo, options.cancelled)
        journal.note_upload(photo.digest, account, address, USED_AGAIN_S)
    return address


def upload(api: Api, photo: EncodedPhoto, cancelled: Cancelled = never) -> str:
    """Upload a photo; returns its address, which the service deletes after 7 days.

    Raises:
        RemoteAuthError: The key was refused.
        RemoteRejected: The service does not take the file.
        RemoteUnavailable: No usable answer after every repetition.
        UnsafeAddressError: The service names an address that must not be spoken to.
    """
    try:
        return api.patiently(lambda: _by_form(api, photo, cancelled), cancelled)
    except RemoteRejected as error:
        if error.status not in (404, 405, 410):
            raise
    return api.patiently(lambda: _by_ticket(api, photo, cancelled), cancelled)


def _by_form(api: Api, photo: EncodedPhoto, cancelled: Cancelled) -> str:
    envelope = api.envelope(
        "POST",
        "/media/upload/binary",
        limits=api.limits.upload,
        cancelled=cancelled,
        files={"file": (photo.filename, photo.data, photo.content_type)},
    )
    return _checked_address(api, envelope.get("data"), "download_url")


def _by_ticket(api: Api, photo: EncodedPhoto, cancelled: Cancelled) -> str:
    ticket = {
        "filename": photo.filename,
        "size": len(photo.data),
        "content_type": photo.content_type,
    }
    envelope = api.envelope("POST", "/media/uploads", cancelled=cancelled, json=ticket)
    order = record(record(envelope.get("data")).get("upload"))
    target = _checked_address(api, order, "url")
    address = _checked_address(api, envelope.get("data"), "download_url")
    headers = {str(k): str(v) for k, v in record(order.get("headers")).items()}
    try:
        reply = api.transport.send(
            "PUT",
            target,
            limits=api.limits.upload,
            cancelled=cancelled,
            data=photo.data,
            headers=headers,
        )
    except TransportError as error:
        raise Passing(error.cause) from None
    if not 200 <= reply.status < 300:
        raise Passing(f"the upload was answered with {reply.status}")
    return address


def _checked_address(api: Api, data: object, name: str) -> str:
    address = record(data).get(name)
    if not isinstance(address, str):
        raise Passing("the answer names no address")
    api.transport.policy.check_url(address)
    return address
