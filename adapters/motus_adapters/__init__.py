"""Other people's formats, in and out: recordings, the unified dataset, policies, simulators."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motus_adapters.action_space import ActionSpace as ActionSpace
    from motus_adapters.action_space import Normalizer as Normalizer
    from motus_adapters.action_space import describe_state as describe_state
    from motus_adapters.anchoring import AnchorReport as AnchorReport
    from motus_adapters.anchoring import anchor as anchor
    from motus_adapters.conversion.canvas import Layout as Layout
    from motus_adapters.conversion.canvas import compose as compose
    from motus_adapters.conversion.canvas import layout_for as layout_for
    from motus_adapters.conversion.canvas import letterbox as letterbox
    from motus_adapters.conversion.episodes import ConvertReport as ConvertReport
    from motus_adapters.conversion.episodes import convert as convert
    from motus_adapters.conversion.inspection import DatasetReport as DatasetReport
    from motus_adapters.conversion.inspection import SourceReport as SourceReport
    from motus_adapters.conversion.inspection import inspect_dataset as inspect_dataset
    from motus_adapters.conversion.inspection import inspect_source as inspect_source
    from motus_adapters.deployment.bundle import BundleConfig as BundleConfig
    from motus_adapters.deployment.bundle import read_bundle as read_bundle
    from motus_adapters.deployment.bundle import write_bundle as write_bundle
    from motus_adapters.deployment.chunking import Overlap as Overlap
    from motus_adapters.deployment.encoders import open_encoders as open_encoders
    from motus_adapters.deployment.latent_decoder import Anchored as Anchored
    from motus_adapters.deployment.latent_decoder import fit_decoder as fit_decoder
    from motus_adapters.deployment.limits import Counts as Counts
    from motus_adapters.deployment.policy import Policy as Policy
    from motus_adapters.exports.formats import Parity as Parity
    from motus_adapters.exports.formats import write_format as write_format
    from motus_adapters.exports.observed import Observed as Observed
    from motus_adapters.files import check_free as check_free
    from motus_adapters.files import replacing as replacing
    from motus_adapters.files import user_cache as user_cache
    from motus_adapters.files import write_json as write_json
    from motus_adapters.flow.canvases import FLOW_BOXES as FLOW_BOXES
    from motus_adapters.flow.canvases import FlowEstimator as FlowEstimator
    from motus_adapters.flow.canvases import flow_canvas as flow_canvas
    from motus_adapters.flow.canvases import pool_views as pool_views
    from motus_adapters.flow.canvases import view_flows as view_flows
    from motus_adapters.flow.choice import FLOWS as FLOWS
    from motus_adapters.flow.choice import FlowMethod as FlowMethod
    from motus_adapters.flow.choice import open_flow as open_flow
    from motus_adapters.flow.dis import DisFlow as DisFlow
    from motus_adapters.flow.fields import ConsistentFlow as ConsistentFlow
    from motus_adapters.flow.fields import chain_canvases as chain_canvases
    from motus_adapters.flow.fields import chain_fields as chain_fields
    from motus_adapters.flow.fields import chain_runs as chain_runs
    from motus_adapters.flow.fields import consistent_pixels as consistent_pixels
    from motus_adapters.flow.fields import remove_camera_motion as remove_camera_motion
    from motus_adapters.health.examining import HealthReport as HealthReport
    from motus_adapters.health.examining import check_health as check_health
    from motus_adapters.health.page import draw_health as draw_health
    from motus_adapters.labels import SHIPPED as SHIPPED
    from motus_adapters.labels import Labeler as Labeler
    from motus_adapters.labels import find_codec as find_codec
    from motus_adapters.labels import flow_of as flow_of
    from motus_adapters.labels import labeler_for as labeler_for
    from motus_adapters.outward import LAYOUTS as LAYOUTS
    from motus_adapters.outward import OutReport as OutReport
    from motus_adapters.outward import convert_out as convert_out
    from motus_adapters.readers import FORMATS as FORMATS
    from motus_adapters.readers import ColumnMap as ColumnMap
    from motus_adapters.readers import Recording as Recording
    from motus_adapters.readers import open_source as open_source
    from motus_adapters.recording import RecordReport as RecordReport
    from motus_adapters.recording import check_record as check_record
    from motus_adapters.recording import record as record
    from motus_adapters.relabel import LabelReport as LabelReport
    from motus_adapters.relabel import label_dataset as label_dataset
    from motus_adapters.serving import Actor as Actor
    from motus_adapters.serving import Listen as Listen
    from motus_adapters.serving import PolicyActor as PolicyActor
    from motus_adapters.serving import Query as Query
    from motus_adapters.serving import ReplayActor as ReplayActor
    from motus_adapters.serving import ServeReport as ServeReport
    from motus_adapters.serving import ServerLimits as ServerLimits
    from motus_adapters.serving import Session as Session
    from motus_adapters.serving import read_token as read_token
    from motus_adapters.serving import serve as serve
    from motus_adapters.sims import ImageSize as ImageSize
    from motus_adapters.sims import InstallReport as InstallReport
    from motus_adapters.sims import Observation as Observation
    from motus_adapters.sims import Simulator as Simulator
    from motus_adapters.sims import SimulatorError as SimulatorError
    from motus_adapters.sims import check_simulator as check_simulator
    from motus_adapters.sims import environment_state as environment_state
    from motus_adapters.sims import families as families
    from motus_adapters.sims import find_entry as find_entry
    from motus_adapters.sims import install as install
    from motus_adapters.sims import open_simulator as open_simulator
    from motus_adapters.sims import scene_of as scene_of
    from motus_adapters.sims import simulator_names as simulator_names
    from motus_adapters.unified.horizon import action_chunks as action_chunks
    from motus_adapters.unified.horizon import chunk_statistics as chunk_statistics
    from motus_adapters.unified.manifest import Header as Header
    from motus_adapters.unified.manifest import Source as Source
    from motus_adapters.unified.reading import UnifiedDataset as UnifiedDataset
    from motus_adapters.unified.staging import half_written as half_written
    from motus_adapters.unified.staging import is_finished as is_finished
    from motus_adapters.unified.staging import is_half_written as is_half_written
    from motus_adapters.unified.video import VideoWriter as VideoWriter
    from motus_adapters.unified.video import read_video as read_video
    from motus_adapters.unified.writing import EpisodeData as EpisodeData
    from motus_adapters.unified.writing import EpisodeJob as EpisodeJob
    from motus_adapters.unified.writing import WriteReport as WriteReport
    from motus_adapters.unified.writing import write_dataset as write_dataset
    from motus_adapters.workers import end_pool as end_pool

# Looked up on first use, so that a command's --help never pays for cv2 or pyarrow (PEP 562).
_HOMES = {
    "ActionSpace": "action_space",
    "Actor": "serving",
    "AnchorReport": "anchoring",
    "Anchored": "deployment.latent_decoder",
    "BundleConfig": "deployment.bundle",
    "ColumnMap": "readers",
    "ConsistentFlow": "flow.fields",
    "ConvertReport": "conversion.episodes",
    "Counts": "deployment.limits",
    "DatasetReport": "conversion.inspection",
    "DisFlow": "flow.dis",
    "FLOW_BOXES": "flow.canvases",
    "SHIPPED": "labels",
    "EpisodeData": "unified.writing",
    "EpisodeJob": "unified.writing",
    "FLOWS": "flow.choice",
    "FORMATS": "readers",
    "FlowEstimator": "flow.canvases",
    "FlowMethod": "flow.choice",
    "Header": "unified.manifest",
    "HealthReport": "health.examining",
    "ImageSize": "sims",
    "InstallReport": "sims",
    "LAYOUTS": "outward",
    "LabelReport": "relabel",
    "Labeler": "labels",
    "Layout": "conversion.canvas",
    "Listen": "serving",
    "Normalizer": "action_space",
    "Observation": "sims",
    "Observed": "exports.observed",
    "OutReport": "outward",
    "Overlap": "deployment.chunking",
    "Parity": "exports.formats",
    "Policy": "deployment.policy",
    "chain_canvases": "flow.fields",
    "chain_fields": "flow.fields",
    "chain_runs": "flow.fields",
    "consistent_pixels": "flow.fields",
    "end_pool": "workers",
    "open_encoders": "deployment.encoders",
    "PolicyActor": "serving",
    "Query": "serving",
    "RecordReport": "recording",
    "Recording": "readers",
    "ReplayActor": "serving",
    "ServeReport": "serving",
    "ServerLimits": "serving",
    "Session": "serving",
    "Simulator": "sims",
    "SimulatorError": "sims",
    "Source": "unified.manifest",
    "SourceReport": "conversion.inspection",
    "UnifiedDataset": "unified.reading",
    "VideoWriter": "unified.video",
    "WriteReport": "unified.writing",
    "action_chunks": "unified.horizon",
    "anchor": "anchoring",
    "check_free": "files",
    "check_health": "health.examining",
    "check_record": "recording",
    "check_simulator": "sims",
    "chunk_statistics": "unified.horizon",
    "compose": "conversion.canvas",
    "convert": "conversion.episodes",
    "convert_out": "outward",
    "describe_state": "action_space",
    "draw_health": "health.page",
    "environment_state": "sims",
    "families": "sims",
    "find_codec": "labels",
    "find_entry": "sims",
    "fit_decoder": "deployment.latent_decoder",
    "flow_of": "labels",
    "flow_canvas": "flow.canvases",
    "half_written": "unified.staging",
    "inspect_dataset": "conversion.inspection",
    "inspect_source": "conversion.inspection",
    "install": "sims",
    "is_finished": "unified.staging",
    "is_half_written": "unified.staging",
    "label_dataset": "relabel",
    "labeler_for": "labels",
    "layout_for": "conversion.canvas",
    "letterbox": "conversion.canvas",
    "open_flow": "flow.choice",
    "open_simulator": "sims",
    "open_source": "readers",
    "pool_views": "flow.canvases",
    "read_bundle": "deployment.bundle",
    "read_token": "serving",
    "read_video": "unified.video",
    "remove_camera_motion": "flow.fields",
    "replacing": "files",
    "record": "recording",
    "scene_of": "sims",
    "serve": "serving",
    "simulator_names": "sims",
    "user_cache": "files",
    "view_flows": "flow.canvases",
    "write_bundle": "deployment.bundle",
    "write_dataset": "unified.writing",
    "write_format": "exports.formats",
    "write_json": "files",
}

__all__ = [
    "FLOWS",
    "FLOW_BOXES",
    "FORMATS",
    "LAYOUTS",
    "SHIPPED",
    "ActionSpace",
    "Actor",
    "AnchorReport",
    "Anchored",
    "BundleConfig",
    "ColumnMap",
    "ConsistentFlow",
    "ConvertReport",
    "Counts",
    "DatasetReport",
    "DisFlow",
    "EpisodeData",
    "EpisodeJob",
    "FlowEstimator",
    "FlowMethod",
    "Header",
    "HealthReport",
    "ImageSize",
    "InstallReport",
    "LabelReport",
    "Labeler",
    "Layout",
    "Listen",
    "Normalizer",
    "Observation",
    "Observed",
    "OutReport",
    "Overlap",
    "Parity",
    "Policy",
    "PolicyActor",
    "Query",
    "RecordReport",
    "Recording",
    "ReplayActor",
    "ServeReport",
    "ServerLimits",
    "Session",
    "Simulator",
    "SimulatorError",
    "Source",
    "SourceReport",
    "UnifiedDataset",
    "VideoWriter",
    "WriteReport",
    "action_chunks",
    "anchor",
    "chain_canvases",
    "chain_fields",
    "chain_runs",
    "check_free",
    "check_health",
    "check_record",
    "check_simulator",
    "chunk_statistics",
    "compose",
    "consistent_pixels",
    "convert",
    "convert_out",
    "describe_state",
    "draw_health",
    "environment_state",
    "families",
    "find_codec",
    "find_entry",
    "fit_decoder",
    "flow_canvas",
    "flow_of",
    "half_written",
    "inspect_dataset",
    "inspect_source",
    "install",
    "is_finished",
    "is_half_written",
    "label_dataset",
    "labeler_for",
    "layout_for",
    "letterbox",
    "open_flow",
    "open_simulator",
    "open_source",
    "pool_views",
    "read_bundle",
    "read_token",
    "read_video",
    "record",
    "remove_camera_motion",
    "replacing",
    "scene_of",
    "serve",
    "simulator_names",
    "user_cache",
    "view_flows",
    "write_bundle",
    "write_dataset",
    "write_format",
    "write_json",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
