import type { Tokenizer } from '../../shared/tokenizer.ts';

/** Texts whose tokens depend on merges, spaces, digits and bytes. */
const PROBES = [
  'Once upon a time, there was a little girl named Lily.',
  "  Don't  stop:\n\n\tdef f(x):\n    return x ** 2  # 12345.678",
  'naïve café 東京 Москва 🙂 \u0000',
];

/** Tokens that are joined to a text, to see how it is split again. */
const TOKENS_PER_PROBE = 16;

/**
 * How a draft model's tokenizer differs from its target's: a token must mean the same to both, or
 * every draft is wrong.
 *
 * @returns `null` when they agree
 */
export function tokenizerDifference(target: Tokenizer, draft: Tokenizer): string | null {
  if (target.vocabSize !== draft.vocabSize) {
    return `${draft.vocabSize} tokens, the target has ${target.vocabSize}`;
  }
  for (let tokenId = 0; tokenId < target.vocabSize; tokenId += 1) {
    if (isSameToken(target, draft, tokenId)) continue;
    const [ours, theirs] = [draft, target].map((each) => JSON.stringify(each.tokenText(tokenId)));
    return `token ${tokenId} is ${ours}, the target's is ${theirs}`;
  }
  for (const text of probesOf(target)) {
    const [ours, theirs] = [draft, target].map((each) =>
      each.encode(text, { addSpecialTokens: true }).join(' '),
    );
    if (ours === theirs) continue;
    return `${JSON.stringify(text)} is the tokens ${ours}, the target's are ${theirs}`;
  }
  return null;
}

/** The same for every merge: each token of the vocabulary is in one of these. */
function* probesOf(tokenizer: Tokenizer): Generator<string> {
  yield* PROBES;
  for (let start = 0; start < tokenizer.vocabSize; start += TOKENS_PER_PROBE) {
    const end = Math.min(start + TOKENS_PER_PROBE, tokenizer.vocabSize);
    const tokenIds = Array.from({ length: end - start }, (_, i) => start + i);
    yield tokenIds.map((tokenId) => tokenizer.tokenText(tokenId)).join('');
  }
}

function isSameToken(target: Tokenizer, draft: Tokenizer, tokenId: number): boolean {
  const [a, b] = [target.tokenBytes(tokenId), draft.tokenBytes(tokenId)];
  if (a === null || b === null)
    return a === b && target.tokenText(tokenId) === draft.tokenText(tokenId);
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
