"""Other people's formats, in and out: recordings, the unified dataset, policies, simulators."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motus_adapters.action_space import ActionSpace as ActionSpace
    from motus_adapters.action_space import Normalizer as Normalizer
    from motus_adapters.action_space import describe_state as describe_state
    from motus_adapters.anchoring import AnchorReport as AnchorReport
    from motus_adapters.anchoring import anchor as anchor
    from motus_adapters.bundle import BundleConfig as BundleConfig
    from motus_adapters.bundle import Policy as Policy
    from motus_adapters.bundle import write_bundle as write_bundle
    from motus_adapters.canvas import Layout as Layout
    from motus_adapters.canvas import compose as compose
    from motus_adapters.canvas import layout_for as layout_for
    from motus_adapters.canvas import letterbox as letterbox
    from motus_adapters.conversion import ConvertReport as ConvertReport
    from motus_adapters.conversion import convert as convert
    from motus_adapters.dataset import UnifiedDataset as UnifiedDataset
    from motus_adapters.flow import DisFlow as DisFlow
    from motus_adapters.flow import FlowEstimator as FlowEstimator
    from motus_adapters.flow import flow_canvas as flow_canvas
    from motus_adapters.inspection import DatasetReport as DatasetReport
    from motus_adapters.inspection import SourceReport as SourceReport
    from motus_adapters.inspection import inspect_dataset as inspect_dataset
    from motus_adapters.inspection import inspect_source as inspect_source
    from motus_adapters.labels import Labeler as Labeler
    from motus_adapters.labels import labeler_for as labeler_for
    from motus_adapters.manifest import Header as Header
    from motus_adapters.manifest import Source as Source
    from motus_adapters.readers import FORMATS as FORMATS
    from motus_adapters.readers import ColumnMap as ColumnMap
    from motus_adapters.readers import Recording as Recording
    from motus_adapters.readers import open_source as open_source
    from motus_adapters.recording import RecordReport as RecordReport
    from motus_adapters.recording import record as record
    from motus_adapters.relabel import LabelReport as LabelReport
    from motus_adapters.relabel import label_dataset as label_dataset
    from motus_adapters.sims import SIMULATORS as SIMULATORS
    from motus_adapters.sims import Observation as Observation
    from motus_adapters.sims import Simulator as Simulator
    from motus_adapters.sims import open_simulator as open_simulator
    from motus_adapters.unified import EpisodeData as EpisodeData
    from motus_adapters.unified import EpisodeJob as EpisodeJob
    from motus_adapters.unified import WriteReport as WriteReport
    from motus_adapters.unified import write_dataset as write_dataset
    from motus_adapters.video import VideoWriter as VideoWriter

# Looked up on first use, so that a command's --help never pays for cv2 or pyarrow (PEP 562).
_HOMES = {
    "ActionSpace": "action_space",
    "AnchorReport": "anchoring",
    "BundleConfig": "bundle",
    "ColumnMap": "readers",
    "ConvertReport": "conversion",
    "DatasetReport": "inspection",
    "DisFlow": "flow",
    "EpisodeData": "unified",
    "EpisodeJob": "unified",
    "FORMATS": "readers",
    "FlowEstimator": "flow",
    "Header": "manifest",
    "LabelReport": "relabel",
    "Labeler": "labels",
    "Layout": "canvas",
    "Normalizer": "action_space",
    "Observation": "sims",
    "Policy": "bundle",
    "RecordReport": "recording",
    "Recording": "readers",
    "SIMULATORS": "sims",
    "Simulator": "sims",
    "Source": "manifest",
    "SourceReport": "inspection",
    "UnifiedDataset": "dataset",
    "VideoWriter": "video",
    "WriteReport": "unified",
    "anchor": "anchoring",
    "compose": "canvas",
    "convert": "conversion",
    "describe_state": "action_space",
    "flow_canvas": "flow",
    "inspect_dataset": "inspection",
    "inspect_source": "inspection",
    "label_dataset": "relabel",
    "labeler_for": "labels",
    "layout_for": "canvas",
    "letterbox": "canvas",
    "open_simulator": "sims",
    "open_source": "readers",
    "record": "recording",
    "write_bundle": "bundle",
    "write_dataset": "unified",
}

__all__ = [
    "FORMATS",
    "SIMULATORS",
    "ActionSpace",
    "AnchorReport",
    "BundleConfig",
    "ColumnMap",
    "ConvertReport",
    "DatasetReport",
    "DisFlow",
    "EpisodeData",
    "EpisodeJob",
    "FlowEstimator",
    "Header",
    "LabelReport",
    "Labeler",
    "Layout",
    "Normalizer",
    "Observation",
    "Policy",
    "RecordReport",
    "Recording",
    "Simulator",
    "Source",
    "SourceReport",
    "UnifiedDataset",
    "VideoWriter",
    "WriteReport",
    "anchor",
    "compose",
    "convert",
    "describe_state",
    "flow_canvas",
    "inspect_dataset",
    "inspect_source",
    "label_dataset",
    "labeler_for",
    "layout_for",
    "letterbox",
    "open_simulator",
    "open_source",
    "record",
    "write_bundle",
    "write_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
