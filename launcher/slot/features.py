"""Machine/Job Features: two folders in which a node tells a job what it has, a file for each value.

A node may write a `shutdowntime` when it learns of one, in the midst of a job: this source is read again and again.

Source: HEP Software Foundation, HSF-TN-2016-02, "Machine/Job Features Specification".
"""

from launcher.slot.words import MIB, Fact, Fault, Quantity, Surroundings, Word, Words, words_of


def features(around: Surroundings) -> Words:
    """Yield the job's size, and its end."""
    yield from _value(around, "JOBFEATURES", "allocated_cpu", Quantity.VCPUS)
    yield from _value(around, "JOBFEATURES", "max_rss_bytes", Quantity.MEMORY_MIB, per=MIB)
    yield from _value(around, "JOBFEATURES", "scratch_limit_bytes", Quantity.DISK_MIB, per=MIB)
    yield from feature_ends(around)


def feature_ends(around: Surroundings) -> Words:
    """Yield the ends alone: of the machine, of the job, and of the job's time."""
    yield from _value(around, "MACHINEFEATURES", "shutdowntime", Quantity.END_S)
    yield from _value(around, "JOBFEATURES", "shutdowntime_job", Quantity.END_S)
    limit_s = start_s = None
    for word in _value(around, "JOBFEATURES", "wall_limit_secs", Quantity.END_S):
        if isinstance(word, Word):
            limit_s = word.fact.value
        else:
            yield word
    if limit_s is None:
        return
    for word in _value(around, "JOBFEATURES", "jobstart_secs", Quantity.END_S):
        if isinstance(word, Word):
            start_s = word.fact.value
        else:
            yield word
    if start_s is not None:
        yield Word(Quantity.END_S, Fact(start_s + limit_s, "JOBFEATURES/wall_limit_secs from jobstart_secs"))


def _value(around: Surroundings, variable: str, name: str, quantity: Quantity, *, per: int = 1) -> Words:
    folder, source = around.environ.get(variable), f"{variable}/{name}"
    if not folder:
        return
    if "://" in folder:
        if name in {"shutdowntime", "shutdowntime_job"}:
            yield Fault(f"{variable} is an address, {folder[:80]}: only folders are read")
        return
    if not around.is_folder(folder):
        # Told once, and not for each value.
        if name in {"shutdowntime", "shutdowntime_job"}:
            yield Fault(f"{variable} names {folder[:80]}, which is no folder")
        return
    try:
        text = around.read(f"{folder}/{name}")
    except OSError as error:
        yield Fault(f"{source} cannot be read: {error.strerror}")
        return
    if text is not None:
        yield from words_of(quantity, text.strip(), source, per=per)
