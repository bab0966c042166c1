import type { ConfigJson } from './checkpoints.ts';

/** Small and of odd proportions, so that nothing holds only because sizes are round. */
const llama = {
  architectures: ['LlamaForCausalLM'],
  vocab_size: 101,
  hidden_size: 48,
  intermediate_size: 76,
  num_hidden_layers: 2,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  hidden_act: 'silu',
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: false,
};

/** One `config.json` per line that a graph must get right. */
export const CONFIGS: Readonly<Record<string, ConfigJson>> = {
  'llama, grouped heads': llama,
  'llama, tied head': { ...llama, tie_word_embeddings: true },
  'llama, every head its own': { ...llama, num_key_value_heads: 6 },
  'llama, one key-value head': { ...llama, num_key_value_heads: 1 },
  'llama, wide heads': { ...llama, head_dim: 20 },
  'llama, broad heads': {
    ...llama,
    hidden_size: 128,
    num_attention_heads: 4,
    head_dim: 128,
    num_hidden_layers: 1,
  },
  'llama, biases': { ...llama, attention_bias: true, mlp_bias: true },
  'llama, linear': { ...llama, rope_scaling: { type: 'linear', factor: 4 } },
  'llama, dynamic': {
    ...llama,
    max_position_embeddings: 100,
    rope_scaling: { type: 'dynamic', factor: 2 },
  },
  'llama, llama3': {
    ...llama,
    rope_scaling: {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    },
  },
  'llama, yarn': {
    ...llama,
    rope_scaling: {
      rope_type: 'yarn',
      factor: 4,
      original_max_position_embeddings: 64,
      beta_fast: 4,
    },
  },
  'mistral, sliding window': {
    ...llama,
    architectures: ['MistralForCausalLM'],
    sliding_window: 50,
  },
  qwen2: { ...llama, architectures: ['Qwen2ForCausalLM'], tie_word_embeddings: true },
  qwen3: { ...llama, architectures: ['Qwen3ForCausalLM'], head_dim: 16 },
  gpt2: {
    architectures: ['GPT2LMHeadModel'],
    vocab_size: 101,
    n_embd: 48,
    n_layer: 2,
    n_head: 4,
    n_positions: 256,
    layer_norm_epsilon: 1e-5,
    activation_function: 'gelu_new',
  },
};
