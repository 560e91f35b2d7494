"""The commands of this package: `launcher submit`, `jobs`, `remove`, `provision`."""

from launcher.batch.jobs_command import jobs, remove
from launcher.batch.provision_command import provision
from launcher.batch.submit_command import submit

__all__ = ["jobs", "provision", "remove", "submit"]
