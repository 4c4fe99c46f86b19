"""Every kind of mistake in a data set: how bad it is, what to call it, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

STOPS, TELLS = "stops", "tells"
"""training does not start; training says it, as it changes what is learned from"""


class Kind(NamedTuple):
    """A kind of mistake.

    Attributes:
        name: what it is called in the machine-readable list.
        group: the heading it is listed under.
        severity: harm to a data set that is affected throughout, 0 to 1.
        title: what it is, to stand before a number.
        fix: what to do about it.
        training: what training does about it: `STOPS`, `TELLS`, or nothing.
    """

    name: str
    group: str
    severity: float
    title: str
    fix: str
    training: str = ""


_FILE = "Annotation files"
_BOX = "Boxes"
_CLASS = "Classes"
_IMAGE = "Images"
_COPY = "Duplicates"
_LEAK = "Leakage between splits"
GROUPS = (_FILE, _BOX, _CLASS, _IMAGE, _COPY, _LEAK)
"""headings that kinds are listed under, in their order"""

_OBJECT = 'write objects, such as {"id": 1, "name": "red"} for a class, or remove them'
_WHOLE = 'write ids as whole numbers of 64 bits, 17 and not "17" or true'
_REMOVE = "remove them from all but one split, and split by source (video, place, day) and not by picture"

KINDS = {
    kind.name: kind
    for kind in (
        # the files
        Kind(
            "file_unreadable", _FILE, 1.0, "annotation files that can't be read", "write or download them again", STOPS
        ),
        Kind(
            *("list_missing", _FILE, 1.0, "lists that are missing or empty"),
            'add them; a class is {"id": 1, "name": "red"}',
            STOPS,
        ),
        Kind("no_images", _FILE, 1.0, "files without an image", "add at least one image, or give another file", STOPS),
        Kind("entry_no_object", _FILE, 0.9, "entries that are no readable object", _OBJECT, STOPS),
        Kind("image_id", _FILE, 0.9, "image ids that are no whole numbers", _WHOLE, STOPS),
        Kind("annotation_id", _FILE, 0.9, "annotation ids that are no whole numbers", _WHOLE, STOPS),
        Kind("category_id", _FILE, 0.9, "category ids that are no whole numbers", _WHOLE, STOPS),
        Kind("image_reference", _FILE, 0.9, "image_id of annotations that is no whole number", _WHOLE, STOPS),
        Kind("category_reference", _FILE, 0.9, "category_id of annotations that is no whole number", _WHOLE, STOPS),
        Kind(
            *("image_id_twice", _FILE, 1.0, "image ids that appear more than once"),
            "give each image its own id, and correct the annotations that refer to them",
            STOPS,
        ),
        Kind("annotation_id_twice", _FILE, 0.9, "annotation ids that appear more than once", "number them anew", STOPS),
        Kind("category_id_twice", _FILE, 1.0, "category ids that appear more than once", "give each its own id", STOPS),
        Kind(
            *("image_unknown", _FILE, 0.9, "annotations of an image that is not in the file"),
            "add the images, or remove the annotations",
            STOPS,
        ),
        Kind(
            *("category_unknown", _FILE, 0.9, "annotations of a category that is not in the file"),
            "add the categories, or remove the annotations",
            STOPS,
        ),
        Kind(
            *("category_off_by_one", _FILE, 1.0, "category ids that are off by one"),
            "number category_id as the categories are",
            STOPS,
        ),
        Kind("file_name_missing", _FILE, 0.9, "images without a file_name", "add it", STOPS),
        Kind(
            *("file_name_twice", _FILE, 0.7, "images whose file is listed again under another id"),
            "merge the entries, with the boxes of all under one id",
        ),
        Kind(
            *("file_name_path", _FILE, 0.5, "file names that work on one machine only"),
            "write paths relative to the folder of the images, with /",
        ),
        Kind(
            *("file_name_near", _FILE, 0.3, "file names that differ a little from those on disk"),
            "write them as they are on disk; training takes these files",
            TELLS,
        ),
        Kind(
            *("file_name_url", _FILE, 0.9, "file names that are addresses of a server"),
            "download the pictures (Label Studio: export with images), and write their names in the folder",
            STOPS,
        ),
        Kind(
            *("image_size", _FILE, 0.9, "images without a valid width and height"),
            "write the pixels of the file, or give the folder of the pictures",
            STOPS,
        ),
        Kind(
            *("image_size_read", _FILE, 0.2, "images without a valid width and height"),
            "write the pixels of the file; training reads them from the pictures",
            TELLS,
        ),
        Kind(
            *("crowd_value", _FILE, 0.8, "iscrowd that is neither 0 nor 1"),
            "write 0 for single objects, 1 for crowds",
            STOPS,
        ),
        Kind(
            *("crowd_missing", _FILE, 0.05, "annotations without iscrowd"),
            "add 0: training takes it for that, other evaluators need it",
        ),
        Kind(
            *("area_missing", _FILE, 0.05, "annotations without area"),
            "add it: training takes width x height, other evaluators need it",
        ),
        Kind(
            *("area_value", _FILE, 0.8, "area that is no number from 0 on"),
            "write square pixels, or leave it out: width x height is taken then",
            STOPS,
        ),
        Kind(
            *("area_wrong", _FILE, 0.3, "area that does not fit the box"),
            "write width x height, or the area of the mask: AP of small, medium and large objects depends on it",
        ),
        Kind("annotation_id_missing", _FILE, 0.05, "annotations without an id", "number them from 1"),
        # the boxes
        Kind(
            *("boxes_corners", _BOX, 1.0, "boxes written as [x1, y1, x2, y2]"),
            "write [x, y, width, height]: width = x2 - x1, height = y2 - y1",
            STOPS,
        ),
        Kind(
            *("boxes_centres", _BOX, 1.0, "boxes written as [centre x, centre y, width, height]"),
            "write the left top corner: x = centre x - width / 2, y = centre y - height / 2",
            STOPS,
        ),
        Kind(
            *("boxes_fractions", _BOX, 1.0, "boxes written as fractions of the image, not in pixels"),
            "multiply x and width by the width of the image, y and height by its height",
            STOPS,
        ),
        Kind(
            *("box_from_mask", _BOX, 0.1, "annotations without a bbox, but with a polygon or mask"),
            "write the bbox; training takes the smallest around the mask",
            TELLS,
        ),
        Kind(
            *("box_missing", _BOX, 0.9, "annotations without a bbox"),
            "add [x, y, width, height], or remove them",
            STOPS,
        ),
        Kind(
            *("box_no_numbers", _BOX, 0.9, "boxes that are not four finite numbers"),
            "write [x, y, width, height] in pixels, or remove them",
            STOPS,
        ),
        Kind(
            *("box_negative", _BOX, 0.9, "boxes of negative width or height"),
            "swap the corners they were made from, or remove them",
            STOPS,
        ),
        Kind("box_no_size", _BOX, 0.8, "boxes of no width or height", "draw them anew, or remove them", STOPS),
        Kind("box_outside", _BOX, 0.9, "boxes outside their image", "correct or remove them", STOPS),
        Kind("box_beyond", _BOX, 0.4, "boxes that reach beyond their image", "clip them; training does", TELLS),
        Kind(
            *("image_sides_swapped", _FILE, 0.8, "images whose boxes fit only if width and height are swapped"),
            "swap width and height of these images",
        ),
        Kind("box_tiny", _BOX, 0.4, "tiny boxes", "look at them: most are slips of the mouse; remove those"),
        Kind(
            *("box_giant", _BOX, 0.15, "giant boxes, which fill their image"),
            "look at them: a label of the whole picture is no object",
        ),
        Kind("box_below_patch", _BOX, 0.4, "boxes smaller than one patch", "raise --image_size"),
        Kind("too_many_boxes", _BOX, 0.8, "images with more boxes than object queries", "raise --num_queries"),
        Kind("box_twice", _COPY, 0.6, "exact duplicates of boxes of their class", "keep one of each"),
        Kind(
            *("box_nearly_twice", _COPY, 0.5, "near duplicates of boxes of their class (IoU 0.9 or more)"),
            "look at them, and keep one of each",
        ),
        Kind(
            *("labels_conflict", _COPY, 0.8, "boxes with two classes on the same object (IoU 0.95 or more)"),
            "decide for one class each",
        ),
        # the classes
        Kind(
            *("class_no_name", _CLASS, 0.7, "categories without a name"),
            "add it; training calls them by their ids",
            TELLS,
        ),
        Kind("class_name_twice", _CLASS, 0.9, "classes of the same name", "merge them into one id"),
        Kind(
            *("class_names_alike", _CLASS, 0.6, "class names that look like the same class"),
            "merge them, if they mean the same",
        ),
        Kind(
            *("class_dummy", _CLASS, 0.15, "classes that only head others"),
            "remove the entry from categories: exports of Roboflow add it, and no box has it",
        ),
        Kind("class_unused", _CLASS, 0.25, "classes without a box", "annotate some, or remove the class"),
        Kind(
            *("classes_differ", _CLASS, 0.9, "classes that training does not list"),
            "write the same categories into all files",
            STOPS,
        ),
        Kind(
            *("class_ids_differ", _CLASS, 1.0, "classes that have another id in the other file"),
            "give a class the same id in all files",
            STOPS,
        ),
        Kind(
            *("class_not_trained", _CLASS, 0.9, "classes in this split that training has no box of"),
            "move some of their images to train",
        ),
        Kind(
            *("class_not_evaluated", _CLASS, 0.4, "classes of train that this split has no box of"),
            "move some of their images there: their AP can't be measured",
        ),
        Kind("class_rare", _CLASS, 0.35, "rare classes, of fewer than 10 boxes", "annotate more of them"),
        Kind(
            *("class_imbalance", _CLASS, 0.2, "classes of fewer than a twentieth of the boxes of the largest"),
            "annotate more of them, and read the AP of each class and not the mean alone",
        ),
        # the images
        Kind("no_boxes", _IMAGE, 1.0, "no box to learn from or to find", "annotate objects that are no crowds", STOPS),
        Kind(
            *("images_without_boxes", _IMAGE, 0.3, "images without boxes"),
            "make sure that they show nothing to find; what is there but not annotated is learnt as background",
        ),
        Kind(
            *("image_missing", _IMAGE, 0.9, "image files that are missing"),
            "add the files, or remove the images from the annotations",
            STOPS,
        ),
        Kind(
            *("image_extra", _IMAGE, 0.15, "image files without an entry"),
            "annotate them, or move them away: nothing uses them",
        ),
        Kind("image_unreadable", _IMAGE, 0.8, "image files that are damaged", "replace them"),
        Kind(
            *("image_size_swapped", _IMAGE, 0.9, "images with width and height swapped in the annotations"),
            "swap width and height, or turn the pictures as they were annotated",
        ),
        Kind(
            *("image_size_differs", _IMAGE, 0.9, "images of another size than the annotations say"),
            "annotate the files that are there, or scale the boxes with them",
        ),
        Kind("image_mode", _IMAGE, 0.8, "images with values below 0, or that are no numbers", "convert them to 8 bits"),
        Kind(
            *("image_depth", _IMAGE, 0.1, "images of more than 8 bits that do not use all of them"),
            "no need: training measures which value is white, and --white_level sets it",
        ),
        Kind("image_animated", _IMAGE, 0.2, "images of several frames", "keep one: training reads the first"),
        Kind(
            *("image_stretched", _IMAGE, 0.25, "images that stretching squeezes to half or less"),
            "use --resize_mode letterbox, or an --image_size of their shape",
        ),
        Kind("image_twice", _COPY, 0.6, "exact duplicates of images", "keep one of each"),
        Kind("image_nearly_twice", _COPY, 0.4, "near duplicates of images", "keep one of each"),
        Kind(
            *("image_boxes_twice", _COPY, 0.3, "images with the size and the boxes of another"),
            "look at them: they may be the same picture",
        ),
        # what two splits share
        Kind("leak_exact", _LEAK, 1.0, "images that are also there, byte for byte", _REMOVE),
        Kind("leak_near", _LEAK, 0.9, "images that look like one there", _REMOVE),
        Kind("leak_source", _LEAK, 0.9, "images made from a picture that is also there", _REMOVE),
        Kind("leak_url", _LEAK, 0.9, "images of the same address", _REMOVE),
        Kind("leak_name", _LEAK, 0.8, "images of the same file name and size", _REMOVE),
        Kind("leak_boxes", _LEAK, 0.8, "images of the same size with the same boxes", _REMOVE),
        Kind(
            *("leak_plain_name", _LEAK, 0.1, "images of the same name and size, though such names mean little"),
            "leave out --skip_images, which tells whether they are the same pictures",
        ),
    )
}
"""by name"""
