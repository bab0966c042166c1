import { describe, expect, it } from 'vitest';
import { canSlide, hasSinks, parseConfig } from '../../../worker/model/config.ts';
import { ModelError } from '../../../worker/model/model-error.ts';
import { CONFIGS } from '../../support/architectures.ts';

const llama = CONFIGS['llama, grouped heads']!;
const parse = (change: object) => parseConfig({ ...llama, ...change }, 'config.json');
/** Parameters of a rotation that is not stretched. */
const base = (rope_theta: number) => ({ rope_type: 'default', rope_theta });
const qwen2 = { architectures: ['Qwen2ForCausalLM'] };

describe('parseConfig', () => {
  it.each([
    [{ architectures: ['MambaForCausalLM'] }, 'architecture MambaForCausalLM is not supported'],
    [{ quantization_config: { bits: 4 } }, 'quantization_config is not supported'],
    [{ hidden_act: 'gelu' }, 'hidden_act: only the activation silu is supported'],
    [{ hidden_size: undefined }, 'hidden_size: '],
    [{ vocab_size: '101' }, 'vocab_size: '],
    [{ num_key_value_heads: 4 }, '6 heads cannot share 4 key-value heads'],
    [{ head_dim: 7 }, 'a head dimension of 7 is not supported'],
    [{ head_dim: 256 }, 'a head dimension of 256 is not supported'],
    [{ partial_rotary_factor: 0.5 }, 'partial rotation is not supported'],
    [{ rope_scaling: { rope_type: 'longrope', factor: 2 } }, 'rope_scaling of type longrope'],
    [{ rope_scaling: { type: 'linear' } }, 'rope_scaling linear lacks factor'],
    [{ rope_scaling: { type: 'llama3', factor: 2 } }, 'rope_scaling llama3 lacks low_freq_factor'],
    [
      { rope_parameters: { full_attention: base(1e6), sliding_attention: base(1e4) } },
      'rope_parameters that differ by layers (full_attention, sliding_attention)',
    ],
    [
      { layer_types: ['full_attention'], rope_parameters: { sliding_attention: base(1e6) } },
      'rope_parameters has nothing for the layers full_attention',
    ],
    [{ rope_parameters: { rope_theta: 1e6, full_attention: base(1e6) } }, 'rope_theta: '],
    [
      { rope_parameters: { full_attention: base(-1) } },
      'rope_parameters.full_attention.rope_theta',
    ],
    [{ rope_parameters: { ...base(1e6), partial_rotary_factor: 0.5 } }, 'partial rotation'],
    [{ layer_types: ['full_attention', 'sliding_attention'] }, 'layer_types that differ'],
    [{ layer_types: ['linear_attention'] }, 'layer_types linear_attention is not supported'],
    [
      { ...qwen2, use_sliding_window: true, sliding_window: 8, max_window_layers: 1 },
      'max_window_layers 1 of 2 layers is not supported; all layers must slide or none',
    ],
  ])('refuses %j in one line', (change, message) => {
    expect(() => parse(change)).toThrow(ModelError);
    expect(() => parse(change)).toThrow(message);
    expect(() => parse(change)).toThrow(/^config\.json: [^\n]*$/);
  });

  it.each([
    [{ activation_function: 'relu' }, 'only gelu_new is supported'],
    [{ scale_attn_by_inverse_layer_idx: true }, 'only false is supported'],
    [{ n_head: 5 }, 'a head dimension of 9.6 is not supported'],
  ])('refuses a GPT-2 with %j', (change, message) => {
    expect(() => parseConfig({ ...CONFIGS.gpt2, ...change }, 'config.json')).toThrow(message);
  });

  it.each([
    ['a Llama, whatever its config says', { sliding_window: 8 }, null],
    ['a Mistral with one', { architectures: ['MistralForCausalLM'], sliding_window: 8 }, 8],
    ['a Mistral without', { architectures: ['MistralForCausalLM'], sliding_window: null }, null],
    ['a Qwen that does not use it', { ...qwen2, sliding_window: 8, max_window_layers: 0 }, null],
    [
      'a Qwen where it begins after the last layer',
      { ...qwen2, use_sliding_window: true, sliding_window: 8, max_window_layers: 2 },
      null,
    ],
    [
      'a Qwen where all layers slide',
      { ...qwen2, use_sliding_window: true, sliding_window: 8, max_window_layers: 0 },
      8,
    ],
  ])('takes the sliding window of %s', (_, change, slidingWindow) => {
    expect(parse(change).slidingWindow).toBe(slidingWindow);
  });

  it.each([
    [{}, 256],
    [{ rope_scaling: { type: 'linear', factor: 4 } }, 1024],
    [{ rope_scaling: { type: 'dynamic', factor: 2 } }, 512],
    [
      {
        max_position_embeddings: 256,
        rope_scaling: {
          rope_type: 'llama3',
          factor: 8,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 64,
        },
      },
      256,
    ],
    [{ rope_scaling: { type: 'yarn', factor: 4, original_max_position_embeddings: 64 } }, 256],
    [{ rope_scaling: { type: 'yarn', factor: 4 } }, 1024],
  ])('with %j can tell apart %d positions', (change, maxSequenceTokens) => {
    expect(parse(change).maxSequenceTokens).toBe(maxSequenceTokens);
  });

  it.each([
    ['no scaling', {}, true],
    ['linear scaling', { rope_scaling: { type: 'linear', factor: 4 } }, true],
    ['YaRN', { rope_scaling: { type: 'yarn', factor: 4 } }, true],
    ['dynamic NTK', { rope_scaling: { type: 'dynamic', factor: 2 } }, false],
    ['a window of its own', { architectures: ['MistralForCausalLM'], sliding_window: 8 }, false],
  ])('with %s can slide behind sinks: %s', (_, change, expected) => {
    expect(canSlide(parse(change))).toBe(expected);
    expect(hasSinks(parse(change), 'webgpu')).toBe(false);
  });

  it('cannot slide behind sinks where positions are learned', () => {
    expect(canSlide(parseConfig(CONFIGS.gpt2, 'config.json'))).toBe(false);
  });

  it('reads rope_parameters, as newer checkpoints call it', () => {
    const { rope } = parse({
      rope_theta: undefined,
      rope_parameters: { rope_type: 'linear', factor: 2, rope_theta: 5_000 },
    });
    expect(rope).toEqual({ headDim: 8, theta: 5_000, scaling: { type: 'linear', factor: 2 } });
  });

  it.each([
    ['all kinds agree', { full_attention: base(5e5), sliding_attention: base(5e5) }, undefined],
    [
      'only one kind is used',
      { full_attention: base(5e5), sliding_attention: base(1e4) },
      ['full_attention', 'full_attention'],
    ],
  ])('reads rope_parameters by kind of layer where %s', (_, rope_parameters, layer_types) => {
    const { rope } = parse({ rope_theta: undefined, rope_parameters, layer_types });
    expect(rope).toEqual({ headDim: 8, theta: 5e5, scaling: { type: 'none' } });
  });
});
