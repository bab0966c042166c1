import type { TokenId } from '../../shared/ids.ts';
import { type ConfigJson, randomTensors, type Tensors } from './checkpoints.ts';
import { seededRng } from './random.ts';

const VOCAB_SIZE = 40;
const HIDDEN = 48; // a dimension for each token, and `DISTURBANCE`
const DISTURBANCE = VOCAB_SIZE;
const HEAD_DIM = 32;
const SLOWEST = HEAD_DIM / 2 - 1; // the pair of a head that hardly turns with the position
export const FIRST: TokenId = 0;
/** What a model that is disturbed says next. */
const BABBLE: TokenId = 1;

/**
 * A model that leans on its first token, as Xiao et al. found that large ones do (arXiv:2309.17453,
 * section 3.1), with weights set by hand. Each token is mostly followed by the next larger one. All
 * queries look for the key of `FIRST`, whose value is nothing: attention has one place to rest.
 * Where that is gone it falls on the other tokens, whose values drown what the token itself says.
 */
export const leaningConfig: ConfigJson = {
  architectures: ['LlamaForCausalLM'],
  vocab_size: VOCAB_SIZE,
  hidden_size: HIDDEN,
  intermediate_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  num_key_value_heads: 1,
  head_dim: HEAD_DIM,
  hidden_act: 'silu',
  max_position_embeddings: 512,
  rms_norm_eps: 1e-6,
  rope_theta: 1e6,
  tie_word_embeddings: false,
};

type Setting = readonly [row: number, column: number, value: number];

export function leaningTensors(): Tensors {
  const tokens = Array.from({ length: VOCAB_SIZE }, (_, tokenId) => tokenId);
  const others = tokens.filter((tokenId) => tokenId !== FIRST);
  const attention = 'model.layers.0.self_attn';
  const settings: Readonly<Record<string, readonly Setting[]>> = {
    'model.embed_tokens.weight': tokens.map((each) => [each, each, 1]),
    // The norm makes a token 7 long, so that the score of the first one is 20, of others 0.
    [`${attention}.q_proj.weight`]: tokens.map((each) => [SLOWEST, each, 1]),
    [`${attention}.k_proj.weight`]: [[SLOWEST, FIRST, 2.4]],
    [`${attention}.v_proj.weight`]: others.map((each) => [0, each, 1]),
    [`${attention}.o_proj.weight`]: [[DISTURBANCE, 0, 1]],
    'lm_head.weight': [
      ...tokens.map((each): Setting => [following(each), each, 0.87]),
      [BABBLE, DISTURBANCE, 1],
    ],
  };
  return new Map(
    [...randomTensors(leaningConfig)].map(([name, { shape, data }]) => {
      const set = data.map(() => (/norm/.test(name) ? 1 : 0));
      for (const [row, column, value] of settings[name] ?? [])
        set[row * shape[1]! + column] = value;
      return [name, { shape, data: set }];
    }),
  );
}

/** A text such as the model expects: nine tokens in ten are the next larger one. */
export function leaningText(numTokens: number): TokenId[] {
  const rng = seededRng(1);
  const text = [FIRST];
  while (text.length < numTokens) {
    const isExpected = rng() < 0.9;
    text.push(isExpected ? following(text.at(-1)!) : 2 + Math.floor(rng() * (VOCAB_SIZE - 2)));
  }
  return text;
}

/** The first token and the babble never come again. */
function following(tokenId: TokenId): TokenId {
  return 2 + ((tokenId + 1) % (VOCAB_SIZE - 2));
}
