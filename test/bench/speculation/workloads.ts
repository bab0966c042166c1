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

/** What must not be slower than plain decoding, whatever comes. */
export function guardedModes(pair: BenchPair, numRows: number): Mode[] {
  return [
    pair.mode('off', MODES.off, numRows),
    pair.mode('auto', MODES.auto, numRows),
    pair.mode('auto, useless draft model', MODES.auto, numRows, useless(pair.draft)),
  ];
}

export function storyPrompts({ tokenizer }: BenchPair): number[][] {
  return texts.slice(0, 100).map((text) => tokenizer.encode(text, { addSpecialTokens: true }));
}

/** A passage said twice and begun a third time: what a request to repeat or to edit looks like to a lookup. */
export function repetitionPrompts({ tokenizer }: BenchPair): number[][] {
  return texts.slice(0, 40).map((text, i) => {
    const passage = `${text} ${texts[(i + 7) % texts.length]} ${texts[(i + 13) % texts.length]}. `;
    const thrice = `${passage}${passage}${passage}`;
    return tokenizer.encode(thrice, { addSpecialTokens: true }).slice(0, 300);
  });
}

/** Stories and strings of random tokens in turn. */
export function mixedPrompts(pair: BenchPair): number[][] {
  const rng = seededRng(5);
  return storyPrompts(pair).map((prompt, i) =>
    i % 2 === 0 ? prompt : Array.from({ length: 40 }, () => integerFrom(rng, 3, 2048)),
  );
}
