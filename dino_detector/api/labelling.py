"""Pictures to label next, doubtful labels and pre-labels, in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from dino_detector.api.calling import documented, python_call, settings_from
from dino_detector.api.keywords import PathLike
from dino_detector.api.keywords.doubts import DoubtsKeywords
from dino_detector.api.keywords.label import LabelKeywords
from dino_detector.api.keywords.suggest import SuggestKeywords
from dino_detector.commands.doubts import doubts as doubts_with
from dino_detector.commands.label import label as label_with
from dino_detector.commands.suggest import suggest as suggest_with
from dino_detector.config.commands import InferenceSettings
from dino_detector.config.labelling import DoubtSettings, LabelSettings, SuggestSettings

if TYPE_CHECKING:
    from dino_detector.labelling.doubts import Doubts
    from dino_detector.labelling.prelabels import PreLabels
    from dino_detector.labelling.suggestions import Suggestions


@documented(SuggestSettings, InferenceSettings)
def suggest(folder: PathLike, **settings: Unpack[SuggestKeywords]) -> Suggestions:
    """Choose the pictures of a folder to label next: uncertain ones, no two alike.

    Example::

        for row in suggest("new_pictures", checkpoint=run.best, labelled="my_data").rows:
            print(row.file, row.reason)

    Like the command, the function writes suggested.txt and suggestions.html to ``output_dir``.

    Args:
        folder: folder of pictures.

    Returns:
        The pictures with their reasons, in the order in which they were chosen.

    Raises:
        InputError: a setting, the checkpoint or the labelled data is wrong; a `ValueError` of one line.
    """
    with python_call():
        usage = 'suggest("new_pictures", checkpoint=...)'
        groups = (SuggestSettings, InferenceSettings)
        return suggest_with(*settings_from(groups, {"folder": folder, **settings}, usage=usage))


@documented(DoubtSettings)
def doubts(data: PathLike, **settings: Unpack[DoubtsKeywords]) -> Doubts:
    """Find labels that are probably wrong: of another class, loose, double or missing.

    Example::

        for row in doubts("my_data", checkpoint=run.best).rows[:20]:
            print(row.kind, row.doubt, row.file_name, row.annotation_id)

    Like the command, the function writes doubts.json and doubts.html to ``output_dir``. It changes no label.

    Args:
        data: folder or file of a data set from any labelling tool; all splits with labels take part.

    Returns:
        All labels and all missing labels, the most doubtful first.

    Raises:
        InputError: a setting, the checkpoint or the data is wrong; a `ValueError` of one line.
    """
    with python_call():
        usage = 'doubts("my_data", checkpoint=...)'
        (resolved,) = settings_from((DoubtSettings,), {"data": data, **settings}, usage=usage)
        return doubts_with(resolved)


@documented(LabelSettings, InferenceSettings)
def label(data_or_folder: PathLike, **settings: Unpack[LabelKeywords]) -> PreLabels:
    """Write pre-labels for pictures without labels, as files that a labelling tool imports.

    Example::

        label("new_pictures", checkpoint=run.best, to="label-studio")

    Args:
        data_or_folder: folder of pictures, or a data set, whose pictures with labels are left out.

    Returns:
        The folder that was written, the thresholds of the classes, and the number of boxes.

    Raises:
        InputError: a setting, the checkpoint or the data is wrong; a `ValueError` of one line.
    """
    with python_call():
        usage = 'label("new_pictures", checkpoint=..., to="cvat")'
        groups = (LabelSettings, InferenceSettings)
        return label_with(*settings_from(groups, {"data_or_folder": data_or_folder, **settings}, usage=usage))
