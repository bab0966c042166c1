import texts from '../../fixtures/prompts.json' with { type: 'json' };
import { integerFrom, seededRng } from '../../support/random.ts';
import { type BenchPair, type Mode, useless } from './bench-pair.ts';

const MODES = {
  off: [],
  draft: ['draft', 'staged'],
  lookup: ['ngram', 'suffix'],
  auto: ['prediction', 'ngram', 'suffix', 'draft', 'staged'],
} as const;

/** Plain decoding first, which the others are compared with. */
export function allModes(pair: BenchPair, numRows: number): Mode[] {
  return Object.entries(MODES).map(([name, list]) => pair.mode(name, list, numRows));
}

/**
 * What must not be slower than plain decoding, whatever comes; and plain decoding again, to see the
 * noise.
 */
export function guardedModes(pair: BenchPair, numRows: number): Mode[] {
  return [
    pair.mode('off', MODES.off, numRows),
    pair.mode('off, again', MODES.off, numRows),
    pair.mode('auto', MODES.auto, numRows),
    pair.mode('auto, useless draft model', MODES.auto, numRows, useless(pair.draft)),
  ];
}

export function storyPrompts({ tokenizer }: BenchPair): number[][] {
  return texts.map((text) => tokenizer.encode(text, { addSpecialTokens: true }));
}

/** What a lookup is for: an answer that repeats what is at hand. */
export function lookupModes(pair: BenchPair, numRows: number): Mode[] {
  return [
    pair.mode('off', MODES.off, numRows),
    pair.mode('lookup', ['prediction', ...MODES.lookup], numRows),
    pair.mode('auto', MODES.auto, numRows),
  ];
}

/** Tokens between two changes of an edited text. */
const EDIT_EVERY = 24;

/**
 * A text as one would have it before an edit: the answer, with a token changed here, gone there,
 * and one too many.
 */
export function beforeEdit(answer: readonly number[]): number[] {
  const rng = seededRng(answer.length + (answer[0] ?? 0));
  return answer.flatMap((token, i) => {
    if (i % EDIT_EVERY !== EDIT_EVERY / 2) return [token];
    const other = integerFrom(rng, 3, 2048);
    return [[other], [], [other, token]][Math.floor(i / EDIT_EVERY) % 3]!;
  });
}

/**
 * The text that comes at place `index`; when all were used, they come again, each from a later
 * place on.
 */
export function textAt(prompts: readonly (readonly number[])[], index: number): readonly number[] {
  const numUses = Math.floor(index / prompts.length);
  return prompts[index % prompts.length]!.slice(LATER_BY * numUses);
}

const LATER_BY = 3;

/** Stories and strings of random tokens in turn. */
export function mixedPrompts(pair: BenchPair): number[][] {
  const rng = seededRng(5);
  return storyPrompts(pair).map((prompt, i) =>
    i % 2 === 0 ? prompt : Array.from({ length: 40 }, () => integerFrom(rng, 3, 2048)),
  );
}
