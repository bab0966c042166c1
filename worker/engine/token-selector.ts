import type { TokenId } from '../../shared/ids.ts';
import type { FinishReason, TokenLogprobs, TokenText } from '../../shared/protocol/event.ts';
import { TokenChooser } from '../sampling/choose.ts';
import { logSumExp, topLogprobs } from '../sampling/logprobs.ts';
import type { SideTokens } from '../speculative/lookahead-window.ts';
import type { VerifiedDraft } from '../speculative/tally.ts';
import { verify } from '../speculative/verify.ts';
import type { Sequence } from './sequence.ts';
import { type Chunk, numLogits, type StepOutput } from './step.ts';

/** Text and bytes of a token by itself. */
export type DescribeToken = (tokenId: TokenId) => Pick<TokenText, 'text' | 'bytes'>;

/** Turns logits into tokens: chooses, verifies drafts, and notices the end. */
export class TokenSelector {
  readonly #vocabSize: number;
  readonly #chooser: TokenChooser;
  readonly #describe: DescribeToken;

  constructor(vocabSize: number, describe: DescribeToken) {
    this.#vocabSize = vocabSize;
    this.#chooser = new TokenChooser(vocabSize);
    this.#describe = describe;
  }

  /**
   * Takes the tokens that a chunk gives into its sequence.
   *
   * @param logits [n, vocabSize], the chunk's from row `firstLogits` on
   */
  select(chunk: Chunk, logits: Float32Array, firstLogits: number): StepOutput {
    const { sequence, numTokens } = chunk;
    const start = sequence.numComputedTokens;
    const numRows = numLogits(chunk);
    const rows = Array.from({ length: numRows }, (_, i) =>
      logits.subarray((firstLogits + i) * this.#vocabSize, (firstLogits + i + 1) * this.#vocabSize),
    );
    const isBroken = rows.some((row) => Number.isNaN(row[0]));
    const numKnown = sequence.tokenIds.length - start;
    const promptLogprobs = isBroken ? [] : this.#promptLogprobs(chunk.sequence, start, rows);
    const nothing = {
      chunk,
      newTokenIds: [],
      text: '',
      logprobs: [],
      promptLogprobs,
      verified: null,
      isBroken,
    };
    if (isBroken && sequence.canSpeculate && numTokens >= numKnown) {
      // Perhaps by a guess: NaN among keys reaches the tokens before them. Read again without.
      sequence.forgoDrafts();
      return { ...nothing, isBroken: false, numKept: 0, finishReason: null };
    }
    if (isBroken || numTokens < numKnown || sequence.options.maxOutputTokens === 0) {
      return { ...nothing, numKept: numTokens, finishReason: sequence.finishReason };
    }

    const drafted = sequence.draftTokenIds.slice(0, numTokens - numKnown);
    const taking = new Taking(sequence, rows.slice(numRows - drafted.length - 1), {
      chooser: this.#chooser,
      describe: this.#describe,
    });
    const numAccepted = verify(drafted, taking);
    const verified = verifiedDraft(sequence, drafted.length, numAccepted);
    sequence.dropDraft();
    return { ...nothing, ...taking.result, numKept: numKnown + numAccepted, verified };
  }

  /**
   * What would follow the side tokens that want it, with the noise of the positions that they are
   * guesses for.
   *
   * @param logits [n, vocabSize], theirs from row `firstLogits` on
   */
  chooseSide(
    { sequence }: Chunk,
    { offsets, firstWanted }: SideTokens,
    logits: Float32Array,
    firstLogits: number,
  ): TokenId[] {
    const { sampling } = sequence.options;
    return offsets.slice(firstWanted).map((offset, i) => {
      const start = (firstLogits + i) * this.#vocabSize;
      const row = logits.subarray(start, start + this.#vocabSize);
      if (Number.isNaN(row[0])) return 0; // a guess, and no worse than another
      const position = sequence.context.numForgotten + sequence.numComputedTokens + offset + 1;
      const draw = { seed: sampling.seed, position };
      return this.#chooser.choose(row, sampling, sequence.history, draw);
    });
  }

  /**
   * What the prompt's own tokens were worth, for those that follow the chunk's, where that is
   * wanted.
   */
  #promptLogprobs(
    sequence: Sequence,
    start: number,
    rows: readonly Float32Array[],
  ): TokenLogprobs[] {
    const { wantsPromptLogprobs, topLogprobs: k } = sequence.options;
    if (!wantsPromptLogprobs || sequence.numOutputTokens > 0) return [];
    const next = sequence.tokenIds.slice(start + 1, start + 1 + rows.length);
    return next.map((tokenId, i) => tokenLogprobs(tokenId, rows[i]!, k ?? 0, this.#describe));
  }
}

/** The tokens that one chunk gives its sequence, as they are taken. */
class Taking {
  readonly #sequence: Sequence;
  readonly #rows: readonly Float32Array[]; // [k + 1] of [vocabSize]
  readonly #chooser: TokenChooser;
  readonly #describe: DescribeToken;
  readonly #newTokenIds: TokenId[] = [];
  readonly #logprobs: TokenLogprobs[] = [];
  #text = '';

  constructor(
    sequence: Sequence,
    rows: readonly Float32Array[],
    { chooser, describe }: { chooser: TokenChooser; describe: DescribeToken },
  ) {
    this.#sequence = sequence;
    this.#rows = rows;
    this.#chooser = chooser;
    this.#describe = describe;
  }

  get isOver(): boolean {
    return this.#sequence.finishReason !== null;
  }

  get result() {
    return {
      newTokenIds: this.#newTokenIds,
      text: this.#text,
      logprobs: this.#logprobs,
      finishReason: this.#sequence.finishReason,
    };
  }

  next(i: number): TokenId {
    const { topLogprobs: k, text } = this.#sequence.options;
    const row = this.#rows[i]!;
    const position = this.#sequence.numTokens;
    const sampling = this.#sequence.samplingAt(position);
    const draw = { seed: sampling.seed, position };
    const tokenId = this.#chooser.choose(row, sampling, this.#sequence.history, draw);
    this.#sequence.accept(tokenId);
    this.#newTokenIds.push(tokenId);
    if (k !== null) this.#logprobs.push(tokenLogprobs(tokenId, row, k, this.#describe));

    const shown = text.push(tokenId);
    this.#text += shown.text;
    this.#sequence.finishReason = finishReasonAfter(this.#sequence, tokenId, shown.isStopped);
    if (this.isOver && !shown.isStopped) this.#text += text.flush().text;
    return tokenId;
  }
}

function verifiedDraft(
  { proposer }: Sequence,
  numDrafted: number,
  numAccepted: number,
): VerifiedDraft | null {
  return proposer === null || numDrafted === 0 ? null : { proposer, numDrafted, numAccepted };
}

/** Whether a sequence ends with the token that it took last. */
export function finishReasonAfter(
  sequence: Sequence,
  tokenId: TokenId,
  isStopped: boolean,
): FinishReason | null {
  const { endTokenIds, maxOutputTokens } = sequence.options;
  if (isStopped || endTokenIds.has(tokenId)) return 'stop';
  return sequence.numOutputTokens >= maxOutputTokens ? 'length' : null;
}

function tokenLogprobs(
  tokenId: TokenId,
  logits: Float32Array,
  k: number,
  describe: DescribeToken,
): TokenLogprobs {
  const logprob = logits[tokenId]! - logSumExp(logits);
  const top = topLogprobs(logits, k).map(({ tokenId: id, logprob }) => ({
    id,
    ...describe(id),
    logprob,
  }));
  return { id: tokenId, ...describe(tokenId), logprob, top };
}
