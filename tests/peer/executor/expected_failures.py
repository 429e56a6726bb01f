"""Which of ONNX's node tests each executor fails, and why: case -> reason.

An executor whose name is here takes part in `test_conformance.py`. A case that is listed and passes
is an error too, so the lists cannot grow stale.
"""

_REASONS = {
    "Scan of opset 8 has a batch axis; opset 9 removed it":
        "test_scan_sum",
    "TreeEnsemble of ai.onnx.ml has no form in standard operators":
        "test_ai_onnx_ml_tree_ensemble_set_membership test_ai_onnx_ml_tree_ensemble_single_tree",
    "decodes a compressed picture, whose shape is in its bytes":
        "test_image_decoder_decode_bmp_rgb test_image_decoder_decode_jpeg2k_rgb "
        "test_image_decoder_decode_jpeg_bgr test_image_decoder_decode_jpeg_grayscale "
        "test_image_decoder_decode_jpeg_rgb test_image_decoder_decode_png_rgb "
        "test_image_decoder_decode_pnm_rgb test_image_decoder_decode_tiff_rgb "
        "test_image_decoder_decode_webp_rgb",
    "expects what numpy's global generator draws; ours is keyed by the job":
        "test_bernoulli test_bernoulli_double test_bernoulli_double_expanded "
        "test_bernoulli_expanded test_bernoulli_seed test_bernoulli_seed_expanded "
        "test_training_dropout test_training_dropout_default test_training_dropout_default_mask "
        "test_training_dropout_mask",
    "the number of turns depends on data":
        "test_loop11",
    "the shape of the result depends on data":
        "test_compress_0 test_compress_1 test_compress_bfloat16 test_compress_default_axis "
        "test_compress_negative_axis test_nonmaxsuppression_center_point_box_format "
        "test_nonmaxsuppression_flipped_coordinates test_nonmaxsuppression_identical_boxes "
        "test_nonmaxsuppression_iou_threshold_boundary test_nonmaxsuppression_limit_output_size "
        "test_nonmaxsuppression_single_box test_nonmaxsuppression_suppress_by_IOU "
        "test_nonmaxsuppression_suppress_by_IOU_and_scores test_nonmaxsuppression_two_batches "
        "test_nonmaxsuppression_two_classes test_nonzero_example "
        "test_unique_bfloat16_sorted_without_axis test_unique_length_1 "
        "test_unique_not_sorted_without_axis test_unique_sorted_with_axis "
        "test_unique_sorted_with_axis_3d test_unique_sorted_with_negative_axis "
        "test_unique_sorted_without_axis",
}
"""Reason -> cases, for every executor."""

EVERY_EXECUTOR = {name: reason for reason, names in _REASONS.items() for name in names.split()}

FLOAT32_TRANSFORMS = dict.fromkeys(
    ["test_dft_inverse", "test_dft_inverse_opset19"],
    "zeros come out as 2e-7 in float32; the case allows 1e-7")
"""For executors that transform float32 in float32."""

_ONNXRUNTIME = {
    **dict.fromkeys(
        ["test_resize_downsample_scales_linear_align_corners",
         "test_resize_downsample_scales_cubic_align_corners"],
        "its kernel aligns to the rounded extent, the standard to the exact product"),
    **dict.fromkeys(
        ["test_dft", "test_dft_axis", "test_dft_inverse", "test_dft_rfft", "test_dft_irfft",
         "test_dft_opset19", "test_dft_axis_opset19", "test_dft_inverse_opset19",
         "test_dft_rfft_opset19", "test_dft_irfft_opset19", "test_stft", "test_stft_with_window"],
        "zeros come out as up to 1e-4 in float32; the case allows 1e-7"),
}

_JAX = dict.fromkeys(
    ["test_dft", "test_dft_axis", "test_dft_opset19", "test_dft_axis_opset19"],
    "zeros come out as 2e-6 in float32; the case allows 1e-7")

EXPECTED_FAILURES = {
    "jax": EVERY_EXECUTOR | _JAX,
    "onnxruntime": EVERY_EXECUTOR | _ONNXRUNTIME,
    "torch": EVERY_EXECUTOR | FLOAT32_TRANSFORMS,
}

LEAST_SHARE = {"jax": 0.96, "onnxruntime": 0.76, "torch": 0.97}
"""Share of the cases in scope, over all operators of ONNX, that an executor must pass."""

SEMANTICS_FAILURES = {
    "numpy": EVERY_EXECUTOR,
    "torch": EVERY_EXECUTOR | FLOAT32_TRANSFORMS,
}
"""Cases that the shared table fails, by backend."""
