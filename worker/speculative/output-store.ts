import type { TenantId, TokenId } from '../../shared/ids.ts';
import type { LookupLimits, Proposal } from './proposer.ts';
import { type Match, SuffixAutomaton } from './suffix-automaton.ts';

export interface OutputStoreOptions {
  /** Memory for all tenants together. */
  readonly maxBytes: number;
  /** Memory for one tenant. */
  readonly maxTenantBytes: number;
  readonly maxMatch: number;
}

const DEFAULTS: OutputStoreOptions = {
  maxBytes: 256 * 2 ** 20,
  maxTenantBytes: 16 * 2 ** 20,
  maxMatch: 24,
};

/** At most two states and three edges a token, in arrays that may be half empty. */
export const MAX_BYTES_PER_TOKEN = 240;

/** Continuations of one match that are compared; the latest ones come first. */
const MAX_CONTINUATIONS = 64;

/**
 * A continuation that fewer earlier outputs took than this share of those that matched is not
 * drafted.
 */
const MIN_SHARE = 0.1;

/**
 * What one tenant's requests put out. The younger part fills while the older one is still looked up
 * in.
 */
interface TenantOutputs {
  younger: SuffixAutomaton;
  older: SuffixAutomaton;
}

/**
 * Recent outputs of one model, and what followed in them when they ended as a sequence ends now:
 * after the longest suffix that matches, the token that came most often, and so on.
 *
 * A tenant looks up in its own outputs only; how much another has put out can cost it old ones, but
 * nothing of theirs ever shows, not even as a faster answer.
 *
 * Oliaro et al., "SuffixDecoding", arXiv:2411.04975, section 4, with the greedy path of the tree.
 */
export class OutputStore {
  readonly #options: OutputStoreOptions;
  readonly #outputsByTenant = new Map<TenantId, TenantOutputs>(); // least recently used first
  #numDocuments = 0;

  constructor(options: Partial<OutputStoreOptions> = {}) {
    this.#options = { ...DEFAULTS, ...options };
  }

  get numBytes(): number {
    let numBytes = 0;
    for (const { younger, older } of this.#outputsByTenant.values()) {
      numBytes += younger.numBytes + older.numBytes;
    }
    return numBytes;
  }

  /** Remembers an output. The best time is a request's end. */
  add(tenant: TenantId, tokenIds: readonly TokenId[]): void {
    const outputs = this.#use(tenant);
    const maxTokens = Math.floor(this.#options.maxTenantBytes / 2 / MAX_BYTES_PER_TOKEN);
    const kept = tokenIds.slice(-(maxTokens - 1)); // the end of one that is too long
    if (outputs.younger.length + kept.length + 1 > maxTokens) {
      outputs.older = outputs.younger;
      outputs.younger = new SuffixAutomaton(this.#options.maxMatch);
    }
    for (const tokenId of kept) outputs.younger.add(tokenId);
    outputs.younger.add(this.#nextSeparator());
    for (const other of this.#outputsByTenant.keys()) {
      if (other === tenant || this.numBytes <= this.#options.maxBytes) break;
      this.#outputsByTenant.delete(other);
    }
  }

  /** Negative and never the same twice: no match crosses it. */
  #nextSeparator(): TokenId {
    this.#numDocuments = (this.#numDocuments + 1) % 2 ** 31;
    return -1 - this.#numDocuments;
  }

  #use(tenant: TenantId): TenantOutputs {
    const { maxMatch } = this.#options;
    const outputs = this.#outputsByTenant.get(tenant) ?? {
      younger: new SuffixAutomaton(maxMatch),
      older: new SuffixAutomaton(maxMatch),
    };
    this.#outputsByTenant.delete(tenant);
    this.#outputsByTenant.set(tenant, outputs);
    return outputs;
  }

  /**
   * @param recentTokenIds the sequence's latest tokens; more than `maxMatch` make no difference
   * @returns `null` when no suffix of `minMatch` tokens occurs in the tenant's outputs
   */
  propose(
    tenant: TenantId,
    recentTokenIds: readonly TokenId[],
    { minMatch, maxDraft }: LookupLimits,
  ): Proposal | null {
    const outputs = this.#outputsByTenant.get(tenant);
    if (outputs === undefined || maxDraft <= 0) return null;
    const younger = this.#match(outputs.younger, recentTokenIds);
    const older = this.#match(outputs.older, recentTokenIds);
    const isOld = older.length > younger.length;
    const match = isOld ? older : younger;
    if (match.length === 0 || match.length < minMatch) return null;

    const tokenIds = likeliestPath(isOld ? outputs.older : outputs.younger, match, maxDraft);
    if (tokenIds.length === 0) return null;
    return { proposer: 'suffix', tokenIds, matchLength: match.length };
  }

  #match(outputs: SuffixAutomaton, recentTokenIds: readonly TokenId[]): Match {
    let match = outputs.start;
    const { length } = recentTokenIds;
    for (let i = Math.max(0, length - this.#options.maxMatch); i < length; i += 1) {
      match = outputs.follow(match, recentTokenIds[i]!);
    }
    return match;
  }
}

/**
 * From a match on, always the token that followed most often, while enough of the matches took the
 * path.
 */
function likeliestPath(outputs: SuffixAutomaton, match: Match, maxDraft: number): TokenId[] {
  const tokenIds: TokenId[] = [];
  let share = 1;
  let place = match;
  while (tokenIds.length < maxDraft) {
    const tokenId = outputs.likeliestNext(place, MAX_CONTINUATIONS);
    if (tokenId === null) break;
    const next = outputs.follow(place, tokenId);
    // A match cut to its last tokens may have come more often than what it continues.
    share *= Math.min(1, outputs.count(next) / outputs.count(place));
    if (share < MIN_SHARE) break;
    tokenIds.push(tokenId);
    place = next;
  }
  return tokenIds;
}
