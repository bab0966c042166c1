/** A change of one source file: `search` must occur there exactly once. */
export interface Patch {
  readonly file: string;
  readonly search: string;
  readonly replace: string;
}

/** A verifier, drafter or sampler that is broken on purpose, and the tests that must notice. */
export interface Mutant {
  readonly name: string;
  readonly patches: readonly Patch[];
  readonly tests: readonly string[];
}

/** Speculation against plain decoding, with a model so small that it takes seconds. */
export const SPECULATION_TESTS = ['test/worker/engine/speculation.test.ts'];

/** Patches of one file. */
export function patchesOf(file: string) {
  return (search: string, replace: string): Patch => ({ file, search, replace });
}
