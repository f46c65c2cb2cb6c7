"""The formats in which data comes, one file each; all boxes and keypoints become COCO's."""
