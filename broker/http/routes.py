"""The route table: every address of the API, what proves the right to use it, and the handler."""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from aiohttp import web

from broker.domain.scopes import Authority
from broker.http import (
    callbacks,
    dav,
    discovery,
    events,
    files,
    folders,
    guests,
    health,
    images,
    install,
    items,
    launcher_jobs,
    launchers,
    logins,
    machines,
    openapi,
    outputs,
    presence,
    pushing,
    results,
    secrets,
    shares,
    stream_callbacks,
    streams,
    tokens,
    uploads,
    users,
    why,
)
from broker.http.call import SERVICES, Call
from broker.http.connections import answer_expectation
from broker.http.doors import (
    OWN,
    Door,
    Proof,
    check_login,
    check_token,
    check_token_or_login,
    check_token_or_signature,
)
from broker.http.route import Handler, Route


def _person(
    method: str, path: str, handler: Handler, authority: Authority | None, over: tuple[str, ...], summary: str
) -> Route:
    return Route(method, path, handler, Proof.TOKEN, summary, authority, over)


def _launcher(path: str, handler: Handler, summary: str, method: str = "POST") -> Route:
    return Route(method, path, handler, Proof.TOKEN, summary, Authority.DISPATCH)


def _guest(path: str, handler: Handler, summary: str, proof: Proof = Proof.LEASE) -> Route:
    return Route("POST", path, handler, proof, summary)


def _bytes(
    method: str, path: str, handler: Handler, authority: Authority | None, over: tuple[str, ...], summary: str
) -> Route:
    return Route(method, path, handler, Proof.TOKEN_OR_SIGNATURE, summary, authority, over)


_A = Authority
_USER, _STREAM, _FILE, _FOLDER, _NONE = ("user",), ("user", "job"), ("user", "path"), ("user", "folder"), ()
_MACHINE_PATH = "/v1/machines/{user}/{name}"
_STREAM_PATH = "/v1/streams/{user}/{job}"
_ITEMS_PATH = f"{_STREAM_PATH}/items"
_ITEM_PATH = f"{_ITEMS_PATH}/{{number}}"
_OUTPUT_PATH = f"{_ITEM_PATH}/outputs/{{path:.+}}"
_READERS_PATH = f"{_MACHINE_PATH}/readers"
_READER_PATH = f"{_READERS_PATH}/{{reader}}"
_SECRET_PATH = "/v1/secrets/{user}/{name}"  # noqa: S105 # an address
_UPLOAD_PATH = f"{uploads.PATH}/{{upload}}"
_IMAGE_PATH = "/v1/images/{digest}"
_ROOT_PATH = "/v1/files/{user}/"
_FOLDER_PATH = "/v1/files/{user}/{folder:.+}/"
_FILE_PATH = "/v1/files/{user}/{path:.+}"
_SHARE_PATH = "/v1/shares/{user}/"
_DISPATCH_PATH = "/v1/dispatches/{dispatch}"
_LAUNCHER_PATH = "/v1/launchers/{name}"
_JOBS_PATH = "/v1/launcher-jobs/{name}"
_USER_PATH = "/v1/users/{user}"
_SITE_PATH = "/v1/sites/{site}"
_KNOWN = "/.well-known/"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", health.healthz, Proof.NOTHING, "the process answers"),
    Route("GET", "/readyz", health.readyz, Proof.NOTHING, "the store answers, too"),
    Route("GET", "/guest/install", install.get_install_script, Proof.NOTHING, "the script that installs the stub"),
    Route("GET", "/openapi.json", openapi.get_document, Proof.NOTHING, "this API's document, OpenAPI 3.1"),
    Route(
        "GET", f"{_KNOWN}openid-configuration", discovery.get_configuration, Proof.NOTHING, "the broker as an issuer"
    ),
    Route("GET", f"{_KNOWN}oauth-authorization-server", discovery.get_metadata, Proof.NOTHING, "the same"),
    Route("GET", f"{_KNOWN}jwks.json", discovery.get_keys, Proof.NOTHING, "the keys that verify its tokens"),
    Route("GET", "/v1/login", logins.get_methods, Proof.NOTHING, "how one can log in, beside a one-time code"),
    Route("POST", "/v1/login", logins.log_in, Proof.CODE, "a one-time code buys a login"),
    Route("POST", "/v1/login/token", logins.renew, Proof.LOGIN, "a new token of a login"),
    Route("DELETE", "/v1/login", logins.log_out, Proof.LOGIN, "log out: revoke the login and its tokens"),
    Route("POST", "/v1/tokens", tokens.make_token, Proof.TOKEN_OR_LOGIN, "a token of no more than one's own scopes"),
    _person("GET", "/v1/tokens", tokens.list_tokens, None, _NONE, "logins and tokens (`?user=`, `?site=`)"),
    _person("DELETE", "/v1/tokens/{token}", tokens.revoke_token, None, _NONE, "revoke a login or a token"),
    _person("POST", f"{_USER_PATH}/codes", logins.make_login_code, _A.ADMIN, _USER, "a one-time code for a user"),
    _person("DELETE", f"{_USER_PATH}/tokens", tokens.revoke_user, _A.ADMIN, _USER, "log a user out everywhere"),
    _person("POST", f"{_SITE_PATH}/tokens", tokens.make_site_token, _A.ADMIN, _NONE, "a token for a site's launchers"),
    _person("GET", "/v1/sites", tokens.list_sites, _A.ADMIN, _NONE, "the tokens of all sites"),
    _person("DELETE", _SITE_PATH, tokens.revoke_site, _A.ADMIN, _NONE, "revoke a site's tokens"),
    _person("GET", "/v1/whoami", health.whoami, None, _NONE, "whom the token speaks for"),
    _person("PUT", _MACHINE_PATH, machines.put_machine, _A.MODIFY, _USER, "a revision of a machine: XML and disks"),
    _person("GET", _MACHINE_PATH, machines.get_machine, None, _NONE, "one machine, your own or shared with you"),
    _person("DELETE", _MACHINE_PATH, machines.delete_machine, _A.MODIFY, _USER, "remove a machine that nothing uses"),
    _person("GET", _READERS_PATH, machines.list_readers, _A.READ, _USER, "whom the machine is shared with"),
    _person("PUT", _READER_PATH, machines.share_machine, _A.MODIFY, _USER, "share it with a user"),
    _person("DELETE", _READER_PATH, machines.unshare_machine, _A.MODIFY, _USER, "take a share back"),
    _person("PUT", _SECRET_PATH, secrets.put_secret, _A.MODIFY, _USER, "a secret for vms; kept sealed, never told"),
    _person("GET", _SECRET_PATH, secrets.get_secret, _A.READ, _USER, "kind, size, version and times of a secret"),
    _person("DELETE", _SECRET_PATH, secrets.delete_secret, _A.MODIFY, _USER, "remove a secret"),
    _person("GET", "/v1/secrets", secrets.list_secrets, None, _NONE, "the same of a user's secrets (`?user=`)"),
    _person("GET", "/v1/callbacks", callbacks.list_callbacks, None, _NONE, "what a user's servers are told (`?user=`)"),
    _person(
        "POST",
        "/v1/callbacks/{callback}/replay",
        callbacks.replay_callback,
        _A.MODIFY,
        (OWN,),
        "tell a server of yours of an event once more",
    ),
    _person("GET", "/v1/machines", machines.list_machines, None, _NONE, "a user's machines (`?user=`)"),
    _person("PUT", _IMAGE_PATH, images.put_image, _A.MODIFY, (OWN,), "an image; its digest is proved"),
    _person("DELETE", _IMAGE_PATH, images.delete_image, _A.MODIFY, (OWN,), "give up an image that no machine names"),
    _person("GET", "/v1/images", images.list_images, _A.READ, (OWN,), "your images, and the machines that name them"),
    _bytes("GET", _IMAGE_PATH, images.get_image, _A.READ, (OWN,), "an image's bytes, in ranges"),
    _bytes("HEAD", _IMAGE_PATH, images.get_image, _A.READ, (OWN,), "whether the broker holds it for you"),
    _person("OPTIONS", uploads.PATH, uploads.discover, _A.MODIFY, (OWN,), "what of the tus protocol is spoken"),
    _person("POST", uploads.PATH, uploads.create, _A.MODIFY, (OWN,), "begin an image's upload, or find the open one"),
    _person("GET", uploads.PATH, uploads.list_uploads, _A.READ, (OWN,), "your unfinished uploads"),
    _person("HEAD", _UPLOAD_PATH, uploads.head, _A.READ, (OWN,), "how far an upload came"),
    _person("PATCH", _UPLOAD_PATH, uploads.patch, _A.MODIFY, (OWN,), "bytes at its offset; the last ones finish it"),
    _person("DELETE", _UPLOAD_PATH, uploads.delete, _A.MODIFY, (OWN,), "end an upload, remove its bytes"),
    _person("POST", _UPLOAD_PATH, uploads.override, _A.MODIFY, (OWN,), "the same, by `X-HTTP-Method-Override`"),
    _person("PUT", _STREAM_PATH, streams.put_stream, _A.MODIFY, _STREAM, "a stream's spec; a change is a revision"),
    _person("GET", _STREAM_PATH, streams.get_stream, _A.READ, _STREAM, "spec (`?revision=`) and counts"),
    _person("DELETE", _STREAM_PATH, streams.purge, _A.CANCEL, _STREAM, "purge: remove it and all its items"),
    _person("POST", f"{_STREAM_PATH}/pause", streams.pause, _A.MODIFY, _STREAM, "give nothing out for now"),
    _person("POST", f"{_STREAM_PATH}/resume", streams.resume, _A.MODIFY, _STREAM, "give out again"),
    _person("POST", f"{_STREAM_PATH}/cancel", streams.cancel_all, _A.CANCEL, _STREAM, "cancel all items, or by state"),
    _person("POST", f"{_STREAM_PATH}/hold", streams.hold_all, _A.CANCEL, _STREAM, "hold all items that no vm has"),
    _person("POST", f"{_STREAM_PATH}/release", streams.release_all, _A.CANCEL, _STREAM, "release all held items"),
    _person("GET", f"{_STREAM_PATH}/why", why.get_stream_why, _A.READ, _STREAM, "one sentence: what it waits for"),
    _person(
        "POST",
        f"{_STREAM_PATH}/callback/test",
        stream_callbacks.try_callback,
        _A.MODIFY,
        _STREAM,
        "tell its server of an event that settles nothing, now",
    ),
    _person("GET", f"{_STREAM_PATH}/revisions", streams.list_revisions, _A.READ, _STREAM, "its spec's revisions"),
    _person("GET", "/v1/streams", streams.list_streams, None, _NONE, "a user's streams (`?user=`)"),
    _person(
        "POST",
        _ITEMS_PATH,
        pushing.push,
        _A.SUBMIT,
        _STREAM,
        "push items: an array of at most 500, or NDJSON (`?skip_bad=`)",
    ),
    _person("GET", _ITEMS_PATH, items.list_items, _A.READ, _STREAM, "items (`?state=&cursor=&limit=`)"),
    _person("GET", _ITEM_PATH, items.get_item, _A.READ, _STREAM, "one item, its last vm and outputs"),
    _person(
        "POST", f"{_ITEM_PATH}/cancel", items.cancel, _A.CANCEL, _STREAM, "stop it for good; 409 when it is settled"
    ),
    _person("POST", f"{_ITEM_PATH}/hold", items.hold, _A.CANCEL, _STREAM, "set it aside; 409 when a vm has it"),
    _person("POST", f"{_ITEM_PATH}/release", items.release, _A.CANCEL, _STREAM, "back to ready, its counters reset"),
    _person("GET", f"{_ITEM_PATH}/why", why.get_item_why, _A.READ, _STREAM, "one sentence: why it is where it is"),
    _person("GET", f"{_ITEM_PATH}/console", items.get_console, _A.READ, _STREAM, "console tail of its last vm, raw"),
    _person("GET", _OUTPUT_PATH, outputs.get_output, _A.READ, _STREAM, "redirects to where an output is, signed"),
    _person("GET", f"{_ITEM_PATH}/log", items.get_log, _A.READ, _STREAM, "its program's output, raw"),
    _person(
        "GET", f"{_ITEM_PATH}/domain-xml", items.get_domain_xml, _A.READ, _STREAM, "the XML its last vm booted with"
    ),
    _person("GET", f"{_STREAM_PATH}/events", events.events, _A.READ, _STREAM, "events: SSE, or NDJSON by Accept"),
    _person("GET", "/v1/events", events.feed, None, _NONE, "those of all of a user's streams (`?user=`), in one order"),
    _person("GET", f"{_STREAM_PATH}/results", results.results, _A.READ, _STREAM, "NDJSON of done and held items"),
    _person("GET", _USER_PATH, users.get_user, None, _NONE, "a user's share, what they have and may have"),
    _person("PUT", _USER_PATH, users.put_user, _A.ADMIN, _USER, "a user's weight and bounds"),
    _launcher("/v1/dispatch", launchers.dispatch, "offer room, wait for an item; 204 when none came"),
    _launcher(f"{_DISPATCH_PATH}/extend", launchers.extend, "the launcher is there; what to do with the vm"),
    _launcher(f"{_DISPATCH_PATH}/events", launchers.vm_event, "a phase of the vm"),
    _launcher(f"{_DISPATCH_PATH}/end", launchers.end, "the verdict, and the console's tail"),
    _launcher(_LAUNCHER_PATH, presence.put_launcher, "the launcher is there, and how it and its node are", "PUT"),
    _launcher(_LAUNCHER_PATH, presence.delete_launcher, "the launcher ends", "DELETE"),
    _launcher("/v1/demand", launcher_jobs.get_demand, "what is ready, by what its vms need", "GET"),
    _launcher(_JOBS_PATH, launcher_jobs.put_jobs, "what became of a submitter's launcher jobs", "PUT"),
    _launcher(_JOBS_PATH, launcher_jobs.delete_jobs, "the submitter has none any more", "DELETE"),
    _person("GET", "/v1/launcher-jobs", launcher_jobs.list_jobs, None, _NONE, "launcher jobs, as submitters told"),
    _person("GET", "/v1/launchers", presence.list_launchers, None, _NONE, "who is there (`?state=&cursor=&limit=`)"),
    _guest("/v1/claim", guests.claim, "ticket and claim key buy the item and a lease", Proof.TICKET),
    _guest("/v1/lease/extend", guests.extend, "push the deadline back; what to do"),
    _guest("/v1/lease/urls", guests.urls, "fresh signed addresses of input and outputs"),
    _guest("/v1/lease/complete", guests.complete, "the result; accepted once"),
    _guest("/v1/lease/fail", guests.fail, "this attempt failed, or is given back (exit code 75)"),
    _bytes("GET", _ROOT_PATH, folders.list_files, _A.FILE_READ, _USER, "a user's files and folders, page by page"),
    _bytes("GET", _FOLDER_PATH, folders.list_folder, _A.FILE_READ, _FOLDER, "what is in a folder, page by page"),
    _person("POST", _SHARE_PATH, shares.share_files, _A.FILE_READ, _USER, "a signed address of all of them"),
    _person(
        "POST", f"{_SHARE_PATH}{{folder:.+}}/", shares.share_folder, _A.FILE_READ, _FOLDER, "a folder's signed address"
    ),
    _person(
        "POST",
        f"{_SHARE_PATH}{{path:.+}}",
        shares.share_file,
        _A.FILE_READ,
        _FILE,
        "a file's signed address, to read it or to make it",
    ),
    _bytes("PUT", _FILE_PATH, files.put_file, _A.FILE_WRITE, _FILE, "write a file, whole or not at all"),
    _bytes("GET", _FILE_PATH, files.get_file, _A.FILE_READ, _FILE, "a file's bytes, in ranges"),
    _bytes("HEAD", _FILE_PATH, files.get_file, _A.FILE_READ, _FILE, "a file's size and digest"),
    _person("POST", _FILE_PATH, files.announce_file, _A.FILE_WRITE, _FILE, "how to send such a file, past the broker"),
    _person("DELETE", _FILE_PATH, files.delete_file, _A.FILE_WRITE, _FILE, "remove a file"),
)


DAV: tuple[Route, ...] = (
    _person("OPTIONS", _ROOT_PATH, dav.options, _A.FILE_READ, _USER, "what of WebDAV is spoken"),
    _person("OPTIONS", _FOLDER_PATH, dav.options, _A.FILE_READ, _FOLDER, "the same"),
    _person("OPTIONS", _FILE_PATH, dav.options, _A.FILE_READ, _FILE, "the same"),
    _person("PROPFIND", _ROOT_PATH, dav.propfind_folder, _A.FILE_READ, _USER, "a user's files and folders"),
    _person("PROPFIND", _FOLDER_PATH, dav.propfind_folder, _A.FILE_READ, _FOLDER, "what is in a folder"),
    _person("PROPFIND", _FILE_PATH, dav.propfind, _A.FILE_READ, _FILE, "a file's size, time and tag"),
    _person("MKCOL", _ROOT_PATH, dav.mkcol, _A.FILE_WRITE, _USER, "a user's own folder, which is there"),
    _person("MKCOL", _FOLDER_PATH, dav.mkcol, _A.FILE_WRITE, _FOLDER, "a folder, which is there with its first file"),
    _person("MKCOL", _FILE_PATH, dav.mkcol, _A.FILE_WRITE, _FILE, "the same"),
    _person("DELETE", _FOLDER_PATH, dav.delete_folder, _A.FILE_WRITE, _FOLDER, "a folder, gone with its last file"),
)
"""Of WebDAV, for rclone: methods that the API's document, OpenAPI, has no names for stand apart from it."""


def add_routes(app: web.Application) -> None:
    """Put the whole table into an application, and the document that is made of it."""
    app[openapi.DOCUMENT] = msgspec.json.encode(openapi.document(ROUTES))
    # Folders before files, whose pattern takes them, too.
    for route in (*DAV, *ROUTES):
        app.router.add_route(route.method, route.path, _guarded(route), expect_handler=answer_expectation)


def _guarded(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    door, handler, operation = _door(route), route.handler, route.operation

    async def handle(request: web.Request) -> web.StreamResponse:
        services = request.app[SERVICES]
        principal = None if door is None else await door(request, services)
        return await handler(Call(request, services, principal, operation))

    return handle


def _door(route: Route) -> Door | None:
    """Return what checks the proof that a route asks for; None where its handler does."""
    match route.proof:
        case Proof.TOKEN:
            return partial(check_token, authority=route.authority, over=route.over)
        case Proof.TOKEN_OR_SIGNATURE:
            return partial(check_token_or_signature, authority=route.authority, over=route.over)
        case Proof.LOGIN:
            return check_login
        case Proof.TOKEN_OR_LOGIN:
            return check_token_or_login
        case Proof.NOTHING | Proof.TICKET | Proof.LEASE | Proof.CODE:
            return None  # the handler itself exchanges the ticket or code, or shows the lease token to the store
