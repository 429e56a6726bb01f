"""Which of ONNX's node tests each executor fails, and why: case -> reason.

An executor whose name is here takes part in `test_conformance.py`. A case that is listed and passes
is an error too, so the lists cannot grow stale.
"""

_REASONS = {
    "Node 0 'Dropout_0' (Dropout): attribute 'ratio' is not one o":
        "test_dropout_random_old",
    "Node 0 'ReduceMax_0' (ReduceMax): attribute 'axes' is not on":
        "test_logsoftmax_axis_0_expanded test_logsoftmax_axis_1_expanded "
        "test_logsoftmax_axis_2_expanded test_logsoftmax_default_axis_expanded "
        "test_logsoftmax_example_1_expanded test_logsoftmax_large_number_expanded "
        "test_logsoftmax_negative_axis_expanded test_softmax_axis_0_expanded "
        "test_softmax_axis_1_expanded test_softmax_axis_2_expanded "
        "test_softmax_default_axis_expanded test_softmax_example_expanded "
        "test_softmax_large_number_expanded test_softmax_negative_axis_expanded",
    "Node 0 'ReduceMean_0' (ReduceMean): attribute 'axes' is not ":
        "test_mvn_expanded",
    "Node 9 'ReduceMean_9' (ReduceMean): attribute 'axes' is not ":
        "test_layer_normalization_2d_axis0_expanded test_layer_normalization_2d_axis1_expanded "
        "test_layer_normalization_2d_axis_negative_1_expanded "
        "test_layer_normalization_2d_axis_negative_2_expanded "
        "test_layer_normalization_3d_axis0_epsilon_expanded "
        "test_layer_normalization_3d_axis1_epsilon_expanded "
        "test_layer_normalization_3d_axis2_epsilon_expanded "
        "test_layer_normalization_3d_axis_negative_1_epsilon_expanded "
        "test_layer_normalization_3d_axis_negative_2_epsilon_expanded "
        "test_layer_normalization_3d_axis_negative_3_epsilon_expanded "
        "test_layer_normalization_4d_axis0_expanded test_layer_normalization_4d_axis1_expanded "
        "test_layer_normalization_4d_axis2_expanded test_layer_normalization_4d_axis3_expanded "
        "test_layer_normalization_4d_axis_negative_1_expanded "
        "test_layer_normalization_4d_axis_negative_2_expanded "
        "test_layer_normalization_4d_axis_negative_3_expanded "
        "test_layer_normalization_4d_axis_negative_4_expanded "
        "test_layer_normalization_default_axis_expanded",
    "expects what numpy's global generator draws; ours is keyed by the job":
        "test_training_dropout test_training_dropout_default test_training_dropout_default_mask "
        "test_training_dropout_mask",
    "operator AffineGrid is not in the list":
        "test_affine_grid_2d test_affine_grid_2d_align_corners test_affine_grid_3d "
        "test_affine_grid_3d_align_corners",
    "operator Bernoulli is not in the list":
        "test_bernoulli test_bernoulli_double test_bernoulli_seed",
    "operator BitCast is not in the list":
        "test_bitcast_2d_float32_to_int32 test_bitcast_bool_to_uint8 "
        "test_bitcast_float32_to_int32 test_bitcast_float64_to_int64 "
        "test_bitcast_int32_to_float32 test_bitcast_int64_to_float64 test_bitcast_int8_to_uint8 "
        "test_bitcast_scalar_float32_to_int32 test_bitcast_uint16_to_int16 "
        "test_bitcast_uint32_to_int32",
    "operator BitShift is not in the list":
        "test_bitshift_left_int16 test_bitshift_left_int32 "
        "test_bitshift_left_int32_negative_shift test_bitshift_left_int32_overflow "
        "test_bitshift_left_int32_shift_ge_width test_bitshift_left_int64 test_bitshift_left_int8 "
        "test_bitshift_left_int8_negative_shift test_bitshift_left_int8_overflow "
        "test_bitshift_left_int8_shift_ge_width test_bitshift_left_uint16 "
        "test_bitshift_left_uint32 test_bitshift_left_uint64 test_bitshift_left_uint8 "
        "test_bitshift_right_int16 test_bitshift_right_int32 "
        "test_bitshift_right_int32_negative_input test_bitshift_right_int32_negative_shift "
        "test_bitshift_right_int32_shift_ge_width test_bitshift_right_int64 "
        "test_bitshift_right_int8 test_bitshift_right_int8_negative_input "
        "test_bitshift_right_int8_negative_shift test_bitshift_right_int8_shift_ge_width "
        "test_bitshift_right_uint16 test_bitshift_right_uint32 test_bitshift_right_uint64 "
        "test_bitshift_right_uint8",
    "operator BitwiseAnd is not in the list":
        "test_bitwise_and_i16_3d test_bitwise_and_i32_2d test_bitwise_and_ui64_bcast_3v1d "
        "test_bitwise_and_ui8_bcast_4v3d",
    "operator BitwiseNot is not in the list":
        "test_bitwise_not_2d test_bitwise_not_3d test_bitwise_not_4d",
    "operator BitwiseOr is not in the list":
        "test_bitwise_or_i16_4d test_bitwise_or_i32_2d test_bitwise_or_ui64_bcast_3v1d "
        "test_bitwise_or_ui8_bcast_4v3d",
    "operator BitwiseXor is not in the list":
        "test_bitwise_xor_i16_3d test_bitwise_xor_i32_2d test_bitwise_xor_ui64_bcast_3v1d "
        "test_bitwise_xor_ui8_bcast_4v3d",
    "operator BlackmanWindow is not in the list":
        "test_blackmanwindow test_blackmanwindow_symmetric",
    "operator CausalConvWithState is not in the list":
        "test_causal_conv_with_state_b1_c1_degenerate test_causal_conv_with_state_basic "
        "test_causal_conv_with_state_decode_step test_causal_conv_with_state_fp16 "
        "test_causal_conv_with_state_kernel_size_one "
        "test_causal_conv_with_state_short_input_no_past_state test_causal_conv_with_state_silu "
        "test_causal_conv_with_state_silu_fp16 test_causal_conv_with_state_silu_with_past_state "
        "test_causal_conv_with_state_swish_alias test_causal_conv_with_state_with_bias "
        "test_causal_conv_with_state_with_bias_and_past_state "
        "test_causal_conv_with_state_with_past_state",
    "operator CenterCropPad is not in the list":
        "test_center_crop_pad_crop test_center_crop_pad_crop_and_pad "
        "test_center_crop_pad_crop_axes_chw test_center_crop_pad_crop_axes_hwc "
        "test_center_crop_pad_crop_negative_axes_hwc test_center_crop_pad_pad",
    "operator Col2Im is not in the list":
        "test_col2im test_col2im_5d test_col2im_dilations test_col2im_pads test_col2im_strides",
    "operator Compress is not in the list":
        "test_compress_0 test_compress_1 test_compress_bfloat16 test_compress_default_axis "
        "test_compress_negative_axis",
    "operator ConvInteger is not in the list":
        "test_convinteger_with_padding test_convinteger_without_padding",
    "operator CumProd is not in the list":
        "test_cumprod_1d test_cumprod_1d_exclusive test_cumprod_1d_int32_exclusive "
        "test_cumprod_1d_reverse test_cumprod_1d_reverse_exclusive test_cumprod_2d_axis_0 "
        "test_cumprod_2d_axis_1 test_cumprod_2d_int32 test_cumprod_2d_negative_axis",
    "operator DFT is not in the list":
        "test_dft test_dft_axis test_dft_axis_opset19 test_dft_inverse test_dft_inverse_opset19 "
        "test_dft_irfft test_dft_irfft_opset19 test_dft_opset19 test_dft_rfft "
        "test_dft_rfft_opset19",
    "operator DeformConv is not in the list":
        "test_basic_deform_conv_with_padding test_basic_deform_conv_without_padding "
        "test_deform_conv_with_mask_bias test_deform_conv_with_multiple_offset_groups",
    "operator DequantizeLinear is not in the list":
        "test_dequantizelinear test_dequantizelinear_axis test_dequantizelinear_blocked "
        "test_dequantizelinear_e4m3fn test_dequantizelinear_e4m3fn_float16 "
        "test_dequantizelinear_e4m3fn_zero_point test_dequantizelinear_e5m2 "
        "test_dequantizelinear_float4e2m1 test_dequantizelinear_int16 test_dequantizelinear_int2 "
        "test_dequantizelinear_int4 test_dequantizelinear_uint16 test_dequantizelinear_uint2 "
        "test_dequantizelinear_uint4",
    "operator Det is not in the list":
        "test_det_2d test_det_nd",
    "operator DynamicQuantizeLinear is not in the list":
        "test_dynamicquantizelinear test_dynamicquantizelinear_max_adjusted "
        "test_dynamicquantizelinear_min_adjusted",
    "operator EyeLike is not in the list":
        "test_eyelike_populate_off_main_diagonal test_eyelike_with_dtype "
        "test_eyelike_without_dtype",
    "operator GRU is not in the list":
        "test_gru_batchwise test_gru_bidirectional test_gru_defaults test_gru_reverse "
        "test_gru_seq_length test_gru_with_initial_bias",
    "operator GridSample is not in the list":
        "test_gridsample test_gridsample_aligncorners_true test_gridsample_bicubic "
        "test_gridsample_bicubic_align_corners_0_additional_1 "
        "test_gridsample_bicubic_align_corners_1_additional_1 test_gridsample_bilinear "
        "test_gridsample_bilinear_align_corners_0_additional_1 "
        "test_gridsample_bilinear_align_corners_1_additional_1 test_gridsample_border_padding "
        "test_gridsample_nearest test_gridsample_nearest_align_corners_0_additional_1 "
        "test_gridsample_nearest_align_corners_1_additional_1 test_gridsample_reflection_padding "
        "test_gridsample_volumetric_bilinear_align_corners_0 "
        "test_gridsample_volumetric_bilinear_align_corners_1 "
        "test_gridsample_volumetric_nearest_align_corners_0 "
        "test_gridsample_volumetric_nearest_align_corners_1 test_gridsample_zeros_padding",
    "operator HammingWindow is not in the list":
        "test_hammingwindow test_hammingwindow_symmetric",
    "operator HannWindow is not in the list":
        "test_hannwindow test_hannwindow_symmetric",
    "operator Hardmax is not in the list":
        "test_hardmax_axis_0 test_hardmax_axis_1 test_hardmax_axis_2 test_hardmax_default_axis "
        "test_hardmax_example test_hardmax_negative_axis test_hardmax_one_hot",
    "operator ImageDecoder is not in the list":
        "test_image_decoder_decode_bmp_rgb test_image_decoder_decode_jpeg2k_rgb "
        "test_image_decoder_decode_jpeg_bgr test_image_decoder_decode_jpeg_grayscale "
        "test_image_decoder_decode_jpeg_rgb test_image_decoder_decode_png_rgb "
        "test_image_decoder_decode_pnm_rgb test_image_decoder_decode_tiff_rgb "
        "test_image_decoder_decode_webp_rgb",
    "operator LRN is not in the list":
        "test_lrn test_lrn_default",
    "operator LSTM is not in the list":
        "test_lstm_batchwise test_lstm_bidirectional test_lstm_defaults test_lstm_reverse "
        "test_lstm_with_initial_bias test_lstm_with_peepholes",
    "operator LinearAttention is not in the list":
        "test_linear_attention_decode_step test_linear_attention_delta "
        "test_linear_attention_explicit_scale test_linear_attention_fp16 "
        "test_linear_attention_gated test_linear_attention_gated_delta "
        "test_linear_attention_gated_delta_beta_scalar test_linear_attention_gated_delta_gqa "
        "test_linear_attention_gated_delta_mqa test_linear_attention_gated_per_head_decay "
        "test_linear_attention_linear test_linear_attention_linear_t1_no_past "
        "test_linear_attention_no_past_explicit_zeros test_linear_attention_prefill_with_past",
    "operator LpNormalization is not in the list":
        "test_l1normalization_axis_0 test_l1normalization_axis_1 test_l1normalization_axis_last "
        "test_l2normalization_axis_0 test_l2normalization_axis_1 test_lpnormalization_default",
    "operator LpPool is not in the list":
        "test_lppool_1d_default test_lppool_2d_default test_lppool_2d_dilations "
        "test_lppool_2d_pads test_lppool_2d_same_lower test_lppool_2d_same_upper "
        "test_lppool_2d_strides test_lppool_3d_default",
    "operator MatMulInteger is not in the list":
        "test_matmulinteger",
    "operator MaxUnpool is not in the list":
        "test_maxunpool_export_with_output_shape test_maxunpool_export_without_output_shape",
    "operator MeanVarianceNormalization is not in the list":
        "test_mvn",
    "operator MelWeightMatrix is not in the list":
        "test_melweightmatrix",
    "operator NonMaxSuppression is not in the list":
        "test_nonmaxsuppression_center_point_box_format "
        "test_nonmaxsuppression_flipped_coordinates test_nonmaxsuppression_identical_boxes "
        "test_nonmaxsuppression_iou_threshold_boundary test_nonmaxsuppression_limit_output_size "
        "test_nonmaxsuppression_single_box test_nonmaxsuppression_suppress_by_IOU "
        "test_nonmaxsuppression_suppress_by_IOU_and_scores test_nonmaxsuppression_two_batches "
        "test_nonmaxsuppression_two_classes",
    "operator NonZero is not in the list":
        "test_nonzero_example",
    "operator QLinearConv is not in the list":
        "test_qlinearconv",
    "operator QLinearMatMul is not in the list":
        "test_qlinearmatmul_2D_int8_float16 test_qlinearmatmul_2D_int8_float32 "
        "test_qlinearmatmul_2D_uint8_float16 test_qlinearmatmul_2D_uint8_float32 "
        "test_qlinearmatmul_3D_int8_float16 test_qlinearmatmul_3D_int8_float32 "
        "test_qlinearmatmul_3D_uint8_float16 test_qlinearmatmul_3D_uint8_float32",
    "operator QuantizeLinear is not in the list":
        "test_dynamicquantizelinear_expanded test_dynamicquantizelinear_max_adjusted_expanded "
        "test_dynamicquantizelinear_min_adjusted_expanded test_quantizelinear "
        "test_quantizelinear_axis test_quantizelinear_blocked_asymmetric "
        "test_quantizelinear_blocked_symmetric test_quantizelinear_e4m3fn "
        "test_quantizelinear_e5m2 test_quantizelinear_float4e2m1 test_quantizelinear_int16 "
        "test_quantizelinear_int2 test_quantizelinear_int4 test_quantizelinear_uint16 "
        "test_quantizelinear_uint2 test_quantizelinear_uint4",
    "operator RNN is not in the list":
        "test_rnn_seq_length test_simple_rnn_batchwise test_simple_rnn_bidirectional "
        "test_simple_rnn_defaults test_simple_rnn_reverse test_simple_rnn_with_initial_bias",
    "operator RandomUniformLike is not in the list":
        "test_bernoulli_double_expanded test_bernoulli_expanded test_bernoulli_seed_expanded",
    "operator Resize is not in the list":
        "test_resize_downsample_scales_cubic "
        "test_resize_downsample_scales_cubic_A_n0p5_exclude_outside "
        "test_resize_downsample_scales_cubic_align_corners "
        "test_resize_downsample_scales_cubic_antialias test_resize_downsample_scales_linear "
        "test_resize_downsample_scales_linear_align_corners "
        "test_resize_downsample_scales_linear_antialias "
        "test_resize_downsample_scales_linear_half_pixel_symmetric "
        "test_resize_downsample_scales_nearest test_resize_downsample_sizes_cubic "
        "test_resize_downsample_sizes_cubic_antialias "
        "test_resize_downsample_sizes_linear_antialias "
        "test_resize_downsample_sizes_linear_pytorch_half_pixel "
        "test_resize_downsample_sizes_nearest test_resize_downsample_sizes_nearest_not_larger "
        "test_resize_downsample_sizes_nearest_not_smaller test_resize_tf_crop_and_resize "
        "test_resize_tf_crop_and_resize_axes_2_3 test_resize_tf_crop_and_resize_axes_3_2 "
        "test_resize_tf_crop_and_resize_extrapolation_value test_resize_upsample_scales_cubic "
        "test_resize_upsample_scales_cubic_A_n0p5_exclude_outside "
        "test_resize_upsample_scales_cubic_align_corners "
        "test_resize_upsample_scales_cubic_asymmetric test_resize_upsample_scales_linear "
        "test_resize_upsample_scales_linear_align_corners "
        "test_resize_upsample_scales_linear_half_pixel_symmetric "
        "test_resize_upsample_scales_nearest test_resize_upsample_scales_nearest_axes_2_3 "
        "test_resize_upsample_scales_nearest_axes_3_2 test_resize_upsample_sizes_cubic "
        "test_resize_upsample_sizes_nearest test_resize_upsample_sizes_nearest_axes_2_3 "
        "test_resize_upsample_sizes_nearest_axes_3_2 "
        "test_resize_upsample_sizes_nearest_ceil_half_pixel "
        "test_resize_upsample_sizes_nearest_floor_align_corners "
        "test_resize_upsample_sizes_nearest_not_larger "
        "test_resize_upsample_sizes_nearest_not_smaller "
        "test_resize_upsample_sizes_nearest_round_prefer_ceil_asymmetric",
    "operator ReverseSequence is not in the list":
        "test_reversesequence_batch test_reversesequence_bfloat16 test_reversesequence_time",
    "operator RoiAlign is not in the list":
        "test_roialign_aligned_false test_roialign_aligned_true test_roialign_mode_max",
    "operator STFT is not in the list":
        "test_stft test_stft_with_window",
    "operator Scatter is not in the list":
        "test_scatter_with_axis test_scatter_without_axis",
    "operator Shrink is not in the list":
        "test_shrink_hard test_shrink_soft",
    "operator SwiGLU is not in the list":
        "test_swiglu test_swiglu_alpha test_swiglu_float16",
    "operator Swish is not in the list":
        "test_swiglu_alpha_expanded test_swiglu_expanded test_swiglu_float16_expanded test_swish",
    "operator TensorScatter is not in the list":
        "test_tensorscatter test_tensorscatter_3d test_tensorscatter_circular",
    "operator TfIdfVectorizer is not in the list":
        "test_tfidfvectorizer_tf_batch_onlybigrams_skip0 "
        "test_tfidfvectorizer_tf_batch_onlybigrams_skip5 "
        "test_tfidfvectorizer_tf_batch_uniandbigrams_skip5 "
        "test_tfidfvectorizer_tf_only_bigrams_skip0 "
        "test_tfidfvectorizer_tf_onlybigrams_levelempty test_tfidfvectorizer_tf_onlybigrams_skip5 "
        "test_tfidfvectorizer_tf_uniandbigrams_skip5",
    "operator Unique is not in the list":
        "test_unique_bfloat16_sorted_without_axis test_unique_length_1 "
        "test_unique_not_sorted_without_axis test_unique_sorted_with_axis "
        "test_unique_sorted_with_axis_3d test_unique_sorted_with_negative_axis "
        "test_unique_sorted_without_axis",
    "operator Upsample is not in the list":
        "test_upsample_nearest",
    "operator ai.onnx.ml.ArrayFeatureExtractor is not in the list":
        "test_ai_onnx_ml_array_feature_extractor",
    "operator ai.onnx.ml.Binarizer is not in the list":
        "test_ai_onnx_ml_binarizer",
    "operator ai.onnx.ml.TreeEnsemble is not in the list":
        "test_ai_onnx_ml_tree_ensemble_set_membership test_ai_onnx_ml_tree_ensemble_single_tree",
    "operator ai.onnx.preview.FlexAttention is not in the list":
        "test_flexattention test_flexattention_diff_head_sizes test_flexattention_double "
        "test_flexattention_fp16 test_flexattention_gqa test_flexattention_scaled",
    "the front end inlines no subgraph of this kind":
        "test_affine_grid_2d_align_corners_expanded test_affine_grid_2d_expanded "
        "test_affine_grid_3d_align_corners_expanded test_affine_grid_3d_expanded "
        "test_flexattention_causal_mask test_flexattention_prob_mod "
        "test_flexattention_relative_positional test_flexattention_score_mod "
        "test_flexattention_soft_cap test_if test_linear_attention_decode_step_expanded "
        "test_linear_attention_delta_expanded test_linear_attention_explicit_scale_expanded "
        "test_linear_attention_fp16_expanded "
        "test_linear_attention_gated_delta_beta_scalar_expanded "
        "test_linear_attention_gated_delta_expanded "
        "test_linear_attention_gated_delta_gqa_expanded "
        "test_linear_attention_gated_delta_mqa_expanded test_linear_attention_gated_expanded "
        "test_linear_attention_gated_per_head_decay_expanded "
        "test_linear_attention_linear_expanded test_linear_attention_linear_t1_no_past_expanded "
        "test_linear_attention_no_past_explicit_zeros_expanded "
        "test_linear_attention_prefill_with_past_expanded test_loop11 "
        "test_range_bfloat16_type_positive_delta_expanded "
        "test_range_float16_type_positive_delta_expanded "
        "test_range_float_type_positive_delta_expanded "
        "test_range_int32_type_negative_delta_expanded test_scan9_multi_state test_scan9_scalar "
        "test_scan9_sum test_scan_sum",
}
"""Reason -> cases, for every executor."""

_EVERY_EXECUTOR = {name: reason for reason, names in _REASONS.items() for name in names.split()}

EXPECTED_FAILURES = {
    "onnxruntime": _EVERY_EXECUTOR,
    "torch": _EVERY_EXECUTOR,
}

LEAST_SHARE = {"onnxruntime": 0.6, "torch": 0.76}
"""Share of the cases in scope, over all operators of ONNX, that an executor must pass."""

SEMANTICS_FAILURES = {
    "numpy": _EVERY_EXECUTOR,
    "torch": _EVERY_EXECUTOR,
}
"""Cases that the shared table fails, by backend."""
