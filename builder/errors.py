"""Everything that a user can do wrong, one exit code a class.

    BuilderError            1
    ├── ManifestError       3   models.yaml cannot be read, or asks for something impossible
    ├── NetworkError        4   the network is unknown, or cannot be made
    ├── WeightsError        5   the weights cannot be had, or do not fit
    ├── ExportError         6   the network cannot be converted to the format
    ├── VerificationError   7   the artifact does not compute what the network computes
    ├── ConfigError         8   a rendered config.pbtxt is not a valid model configuration
    ├── PublishError        9   the repository cannot be written
    ├── LaunchError         10  the server cannot be started
    │   ├── ModelLoadError  11  the server runs, but refused a model
    │   └── ServerEnded     21  the server ended by itself
    ├── MergeError          12  repositories do not go together
    ├── CompareError        13  a comparison cannot be made, timed or drawn
    ├── TrainingError       14  a training run cannot begin or go on
    │   └── DataError       15  its images cannot be had, or are not what they should be
    ├── RepositoryError     16  a repository is not whole, or not what was recorded of it
    ├── EngineError         17  Docker's engine is away, or refuses
    ├── ImageError          18  an image fits no repository, or cannot be pulled or built
    ├── DeployError         19  deployment files cannot be rendered or written
    ├── ClusterError        20  a cluster to build on is away, or lacks what a build needs
    ├── WorkerError         22  a process that built a model ended before it was done
    ├── RolloutError        23  a server cannot be brought to what is published; it serves what it served before
    │   ├── RolloutBusy     24  another rollout is at work
    │   ├── ServerAway      25  the server does not answer, or vanished meanwhile
    │   └── ServerOdd       26  what answers is no Triton, or refuses control of its models
    ├── StoreError          27  a repository cannot be pushed or pulled
    │   └── CredentialsError  28  the store refuses the credentials, or there are none
    ├── NoSpace             29  there is no room left on a disk, or in a store
    ├── SignatureError      30  a repository's signature is missing or wrong
    ├── OutdatedError       31  `build --locked` found something that it would build
    ├── CheckError          32  a repository has what the server that it is for would refuse
    └── UnusableError       2   what `check` is given is nothing that could be checked

2 is the command line's own, too (unknown option, missing argument); 130 is Ctrl-C, 143 SIGTERM (see docs/signals.md).
`check` is no error where it finds something: its exit code is then 1.
A message says what is wrong, where, and how to mend it.
"""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_WORDS = ("no space left on device", "disk quota exceeded")
"""Where the number is lost, as in what C++ libraries raise."""


class BuilderError(Exception):
    exit_code = 1


class ManifestError(BuilderError):
    exit_code = 3
    has_place = False
    """Whether the message names the file, the line and the key."""


class NetworkError(BuilderError):
    exit_code = 4


class WeightsError(BuilderError):
    exit_code = 5


class ExportError(BuilderError):
    exit_code = 6


class VerificationError(BuilderError):
    exit_code = 7


class ConfigError(BuilderError):
    exit_code = 8


class PublishError(BuilderError):
    exit_code = 9


class LaunchError(BuilderError):
    exit_code = 10


class ModelLoadError(LaunchError):
    exit_code = 11


class ServerEnded(LaunchError):
    exit_code = 21


class MergeError(BuilderError):
    exit_code = 12


class CompareError(BuilderError):
    exit_code = 13


class TrainingError(BuilderError):
    exit_code = 14


class DataError(TrainingError):
    exit_code = 15


class RepositoryError(BuilderError):
    exit_code = 16


class EngineError(BuilderError):
    exit_code = 17


class ImageError(BuilderError):
    exit_code = 18


class DeployError(BuilderError):
    exit_code = 19


class ClusterError(BuilderError):
    exit_code = 20


class WorkerError(BuilderError):
    exit_code = 22


class RolloutError(BuilderError):
    exit_code = 23


class RolloutBusy(RolloutError):
    exit_code = 24


class ServerAway(RolloutError):
    exit_code = 25


class ServerOdd(RolloutError):
    exit_code = 26


class StoreError(BuilderError):
    exit_code = 27


class CredentialsError(StoreError):
    exit_code = 28


class NoSpace(BuilderError):
    exit_code = 29


class SignatureError(BuilderError):
    exit_code = 30


class OutdatedError(BuilderError):
    exit_code = 31


class CheckError(BuilderError):
    exit_code = 32


class UnusableError(BuilderError):
    exit_code = 2


def is_full(error: BaseException) -> bool:
    """Whether a disk, or somebody's share of it, has no room left."""
    said = str(error).lower()
    return isinstance(error, NoSpace) or getattr(error, "errno", None) in FULL or any(one in said for one in FULL_WORDS)


def full_or(kind: type[BuilderError], error: BaseException) -> type[BuilderError]:
    """What to raise for an error of the system: NoSpace if that is what it says, else `kind`."""
    return NoSpace if is_full(error) else kind
