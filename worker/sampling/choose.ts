import type { TokenId } from '../../shared/ids.ts';
import type { SamplingParams } from '../../shared/protocol/job.ts';
import { applyBias, applyPenalties, keepMinP, keepTopK, keepTopP } from './filters.ts';
import type { TokenHistory } from './history.ts';
import { sample } from './sample.ts';

/**
 * The token that follows: a pure function of its arguments, which is the promise of this service.
 * Penalties and bias first, then temperature, top-k, top-p of what top-k left, min-p, and the draw.
 */
export class TokenChooser {
  readonly #scratch: Float32Array; // [vocabSize]

  constructor(vocabSize: number) {
    this.#scratch = new Float32Array(vocabSize);
  }

  /** @param logits [vocabSize], left as they are */
  choose(
    logits: Float32Array,
    params: SamplingParams,
    history: TokenHistory,
    draw: { readonly seed: number; readonly position: number },
  ): TokenId {
    if (isPlain(params)) return sample(logits, params.temperature, draw);
    const filtered = this.#scratch;
    filtered.set(logits);
    applyPenalties(filtered, history, params);
    applyBias(filtered, params.logitBias);
    if (params.temperature > 0) {
      keepTopK(filtered, params.topK);
      keepTopP(filtered, params.topP, params.temperature);
      keepMinP(filtered, params.minP, params.temperature);
    }
    return sample(filtered, params.temperature, draw);
  }
}

/** Whether the logits go to the draw as they are. */
function isPlain(params: SamplingParams): boolean {
  const isUnfiltered =
    params.temperature === 0 || (params.topK === 0 && params.topP === 1 && params.minP === 0);
  return (
    isUnfiltered &&
    params.presencePenalty === 0 &&
    params.frequencyPenalty === 0 &&
    params.repetitionPenalty === 1 &&
    params.logitBias.length === 0
  );
}
