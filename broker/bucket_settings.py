"""What an operator may set about the S3 bucket of users' files."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from broker.domain.buckets import Bucket, check_endpoint, parse_bucket


class BucketSettings(BaseSettings):
    """The settings of the bucket, among those of the broker."""

    files: str | None = Field(
        None, description="s3://BUCKET/PREFIX where users' files are kept; absent: in the data folder"
    )
    files_endpoint: str | None = Field(None, description="https://HOST of another server that speaks S3 than Amazon's")
    files_region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,64}$", description="the bucket's region")
    files_credentials: Path | None = Field(
        None, description="file in the form of ~/.aws/credentials; default: `AWS_ACCESS_KEY_ID` and so on"
    )

    @field_validator("files")
    @classmethod
    def _files_are_in_a_bucket(cls, value: str | None) -> str | None:
        if value is not None:
            parse_bucket(value)
        return value

    @field_validator("files_endpoint")
    @classmethod
    def _endpoint_is_an_address(cls, value: str | None) -> str | None:
        return None if value is None else check_endpoint(value)

    @property
    def bucket(self) -> Bucket | None:
        """The bucket of users' files; None: they are in the data folder."""
        if self.files is None:
            return None
        name, prefix = parse_bucket(self.files)
        file = None if self.files_credentials is None else str(self.files_credentials.absolute())
        return Bucket(
            bucket=name, prefix=prefix, region=self.files_region, endpoint=self.files_endpoint, credentials=file
        )
