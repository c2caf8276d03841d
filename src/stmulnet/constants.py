"""Numbers of the official network and protocol, each with its source.

Primary numbers are stated once; derived ones are computed from them.
"""

STREAMS = ("appearance", "motion")  # in the order in which networks take their clips; officially spatial, temporal

FLOW_STACK_FRAMES = 10  # flow fields per stack (cnn_get_im_flow_batch.m: nStack)
FLOW_CHANNELS = 2 * FLOW_STACK_FRAMES  # u v u v ...
FLOW_STACK_BEFORE = 5  # fields t-5 ... t+4: the stack is not centred (cnn_get_im_flow_batch.m:143)
FLOW_STACK_AFTER = FLOW_STACK_FRAMES - FLOW_STACK_BEFORE - 1
FLOW_BOUND_PX = 20.0  # displacements are clipped to +-20 px before 8-bit storage (gpu_flow, compute_flow.cpp)
FLOW_ZERO_LEVEL = 128  # the 8-bit level of a displacement of zero; also the flow mean of the official nets

MIN_FRAMES = FLOW_STACK_FRAMES + 1  # the shortest clip with one admissible time, t = 6

RGB_MEAN = (123.15, 115.90, 103.06)  # ImageNet mean image, averaged over positions; no standard deviation
INPUT_SIZE = 224  # pixels, both sides
STORED_SHORT_SIDE = 256  # pixels, frames and flow on disk

CROP_SIDES = (0.75, 1.25)  # smallest and largest training crop relative to the input side ('f25noCtr')
MULTI_SCALE_SIDES = (256, 224, 192, 168)  # pixels, of crops for an input of 224 ('multiScaleRegular')

TRAIN_FRAMES = 5  # frames per training clip (STMulNet.m: nFrames)
TRAIN_STRIDES = (5, 35)  # first and last admissible stride, both drawn (STMulNet.m: temporalStride 5:35)
CALL_VIDEOS = 4  # videos per loader call: 128 in 32 sub-batches (STMulNet.m)
TEST_FRAMES = 25  # frames per test video (STMuNet_test.m: numValFrames)

JPEG_QUALITY = 95
