"""From a video to the recognised action: decode, flow, test protocol."""

from stmulnet.predictor.clips import consecutive_runs as consecutive_runs
from stmulnet.predictor.clips import protocol_clips as protocol_clips
from stmulnet.predictor.prediction import Prediction as Prediction
from stmulnet.predictor.prediction import PreparedVideo as PreparedVideo
from stmulnet.predictor.prediction import Ranking as Ranking
from stmulnet.predictor.video_predictor import VideoPredictor as VideoPredictor
