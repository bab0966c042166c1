import { invariant } from '../../shared/assert.ts';
import type { TokenId } from '../../shared/ids.ts';
import { type DrawKey, gumbelBound, hashDraw, noiseBits, toGumbel } from './noise.ts';

/** The first greatest logit. @param logits [vocabSize], at least one finite */
export function argmax(logits: Float32Array): TokenId {
  const { length } = logits;
  let best = -1;
  let bestLogit = -Infinity;
  let tokenId = 0;
  // Hardly any is greater than all before it: four at a time are found not to be.
  for (; tokenId + 4 <= length; tokenId += 4) {
    const isGreater =
      logits[tokenId]! > bestLogit ||
      logits[tokenId + 1]! > bestLogit ||
      logits[tokenId + 2]! > bestLogit ||
      logits[tokenId + 3]! > bestLogit;
    if (!isGreater) continue;
    for (let i = tokenId; i < tokenId + 4; i += 1) {
      if (logits[i]! > bestLogit) {
        best = i;
        bestLogit = logits[i]!;
      }
    }
  }
  for (; tokenId < length; tokenId += 1) {
    if (logits[tokenId]! > bestLogit) {
      best = tokenId;
      bestLogit = logits[tokenId]!;
    }
  }
  invariant(best >= 0, 'a draw needs a finite logit');
  return best;
}

/**
 * Draws from softmax(logits / temperature) by the Gumbel-max trick: the greatest of
 * logit / temperature + noise. Temperature 0 is its limit, the first greatest logit.
 *
 * The noise of a token is worked out only where a bound on it, taken from the leading bits of its
 * hash, says that it could win: about one token in twenty.
 *
 * @param logits [vocabSize], filtered tokens at -Infinity, at least one finite
 *
 * Maddison, Tarlow, Minka, "A* Sampling", arXiv:1411.0030, section 2.
 */
export function sample(logits: Float32Array, temperature: number, key: DrawKey): TokenId {
  const likeliest = argmax(logits);
  if (temperature === 0) return likeliest;

  const hash = hashDraw(key);
  const greatest = logits[likeliest]!; // subtracted, so that no temperature is too low to divide by
  let best = likeliest;
  let bestScore = toGumbel(noiseBits(hash, likeliest));
  for (let tokenId = 0; tokenId < logits.length; tokenId += 1) {
    const logit = logits[tokenId]!;
    if (logit === -Infinity) continue;
    const scaled = (logit - greatest) / temperature;
    const bits = noiseBits(hash, tokenId);
    if (scaled + gumbelBound(bits) < bestScore) continue;
    const score = scaled + toGumbel(bits);
    if (score > bestScore || (score === bestScore && tokenId < best)) {
      best = tokenId;
      bestScore = score;
    }
  }
  return best;
}
