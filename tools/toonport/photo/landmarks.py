"""The backends that set landmarks. Both look in boxes of dlib's detector, as the reference does by default."""

from convert.devices import CPU
from toonport.photo import landmarks_dlib, landmarks_fan
from toonport.photo.backends import LANDMARK_NAMES, Backend, open_backend
from toonport.photo.faces import Landmarks

LANDMARKS: dict[str, Backend[Landmarks]] = {
    LANDMARK_NAMES[0]: Backend(landmarks_dlib.examine, lambda device: landmarks_dlib.DlibLandmarks()),
    LANDMARK_NAMES[1]: Backend(landmarks_fan.examine, landmarks_fan.FaceAlignmentLandmarks),
}


def open_landmarks(name: str = "dlib", device: str = CPU) -> Landmarks:
    """Return a landmark backend on a device, CPU or GPU.

    Raises InputError: unknown, not installed, or its weights are not there; says what to do.
    """
    return open_backend("landmarks", LANDMARKS, name, device)
