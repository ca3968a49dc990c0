"""Everything that training refuses to do, each with a sentence that says what to change.

TrainingError
├── UsageError           the command line names something that does not exist
├── DataUnavailable      the images are missing, damaged or of another shape
├── DeviceUnavailable    CUDA was asked for and there is none
├── RunUnavailable       no run to resume, or another process is in it
├── CheckpointRejected   a checkpoint is damaged or another recipe's
├── CheckpointNotWritten the disk takes no more
├── TrainingDiverged     the loss is no longer a number
├── Interrupted          somebody asked to stop; the checkpoint is written
├── ExportRefused        ONNX Runtime does not answer as PyTorch does
├── ArtifactMissing      there is no artifact of that name
├── ArtifactDamaged      there is a file of that name, and it is no artifact
├── NotReproduced        a figure differs from the one that the course material prints
└── PageIncomplete       a page lacks the markers of a table
"""

from __future__ import annotations


class TrainingError(Exception):
    """Its text is the sentence for the user."""


class UsageError(TrainingError):
    pass


class DataUnavailable(TrainingError):
    pass


class DeviceUnavailable(TrainingError):
    pass


class RunUnavailable(TrainingError):
    pass


class CheckpointRejected(TrainingError):
    pass


class CheckpointNotWritten(TrainingError):
    pass


class TrainingDiverged(TrainingError):
    pass


class Interrupted(TrainingError):
    pass


class ExportRefused(TrainingError):
    pass


class ArtifactMissing(TrainingError):
    pass


class ArtifactDamaged(TrainingError):
    pass


class NotReproduced(TrainingError):
    pass


class PageIncomplete(TrainingError):
    pass
