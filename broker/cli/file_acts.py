"""What `broker file ls | rm | share` do."""

from broker.cli import showing
from broker.cli.acting import Acting
from broker.cli.exits import BadUsage, Exit, tell, tell_done
from broker.cli.file_names import file_name, folder_name
from broker.client.errors import ApiError
from broker.wire.kinds import in_full
from broker.wire.problems import ProblemCode


async def list_folder(acting: Acting, folder: str, is_deep: bool, output: str) -> None:
    """Show what is in a folder; lines go out page by page, a table at the end."""
    console, full = showing.stdout(), folder_name(acting, folder)
    entries = acting.folders.entries(full, is_deep=is_deep)
    if output == "jsonl":
        async for entry in entries:
            console.file.write(showing.json_of(in_full(entry)) + "\n")
        return
    if output == "json":
        console.file.write(showing.json_of([in_full(entry) async for entry in entries]) + "\n")
        return
    table = showing.table("name", "size", "changed", "sha256", right=("size",))
    async for entry in entries:
        size = "" if entry.size_bytes is None else showing.size(entry.size_bytes)
        table.add_row(showing.plain(entry.name), size, entry.modified_at, showing.short(entry.digest or ""))
    if not table.row_count:
        console.print(f"no file is below file:{full}")
        return
    console.print(table)


async def remove(acting: Acting, names: list[str], is_recursive: bool) -> int:
    """Remove files, each told; what is not there, or is a folder, is told and the others go all the same."""
    status = Exit.DONE
    for name in names:
        try:
            if name.endswith("/") and not is_recursive:
                raise BadUsage(f"{name} is a folder: add --recursive to remove every file below it")
            removed = await _remove_folder(acting, name) if is_recursive else 0
            if not name.endswith("/") and (not removed or not is_recursive):
                await _remove_file(acting, file_name(acting, name))
            elif not removed:
                tell(f"there is no file below {name}")
                status = Exit.REFUSED
        except ApiError as error:
            if error.code is not ProblemCode.NOT_FOUND:
                raise
            tell(error.problem.detail, *await _hint(acting, name))
            status = Exit.REFUSED
    return status


async def _remove_folder(acting: Acting, name: str) -> int:
    full, count = folder_name(acting, name), 0
    try:
        async for entry in acting.folders.entries(full, is_deep=True):
            await _remove_file(acting, f"{full}{entry.name}")
            count += 1
    except ApiError as error:
        if error.code is not ProblemCode.NOT_FOUND:
            raise
    return count


async def _remove_file(acting: Acting, full: str) -> None:
    await acting.folders.delete(full)
    showing.stdout().print(showing.plain(f"file:{full}"), soft_wrap=True)


async def _hint(acting: Acting, name: str) -> list[str]:
    try:
        async for _ in acting.folders.entries(folder_name(acting, name), is_deep=True):
            return [f"{name} is a folder: add --recursive to remove every file below it"]
    except ApiError:
        pass
    return []


async def share_name(acting: Acting, name: str, life_s: int, is_write: bool) -> None:
    """Print a signed address, and on stderr what it is good for."""
    full = folder_name(acting, name) if name.endswith("/") else file_name(acting, name)
    view = await acting.folders.share(full, life_s=life_s, is_write=is_write)
    console = showing.stdout()
    console.file.write(showing.plain(view.url) + "\n")
    tell_done(f"{view.method} until {view.ends_at}; remove what is shared to end it before")
