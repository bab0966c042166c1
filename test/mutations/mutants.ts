import { ACCOUNTS } from './accounts.ts';
import { CACHES } from './caches.ts';
import { DRAFTERS } from './drafters.ts';
import type { Mutant } from './mutant.ts';
import { RESUMES } from './resumes.ts';
import { SAMPLERS } from './samplers.ts';
import { SINKS } from './sinks.ts';
import { VERIFIERS } from './verifiers.ts';
import { WEBHOOKS } from './webhooks.ts';

/** All that `npm run mutations` tries. */
export const MUTANTS: readonly Mutant[] = [
  ...VERIFIERS,
  ...CACHES,
  ...SINKS,
  ...DRAFTERS,
  ...SAMPLERS,
  ...WEBHOOKS,
  ...ACCOUNTS,
  ...RESUMES,
];
