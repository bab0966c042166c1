import type { TenantId, TokenId } from '../../shared/ids.ts';
import { TenantOutputs } from './tenant-outputs.ts';

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
    for (const outputs of this.#outputsByTenant.values()) numBytes += outputs.numBytes;
    return numBytes;
  }

  /** What there is of a tenant; `null` for nothing. */
  outputsOf(tenant: TenantId): TenantOutputs | null {
    return this.#outputsByTenant.get(tenant) ?? null;
  }

  /** Remembers an output. The best time is a request's end. */
  add(tenant: TenantId, tokenIds: readonly TokenId[]): void {
    this.#use(tenant).add(tokenIds, this.#nextSeparator());
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
    const { maxMatch, maxTenantBytes } = this.#options;
    const maxTokens = Math.floor(maxTenantBytes / 2 / MAX_BYTES_PER_TOKEN);
    const outputs = this.outputsOf(tenant) ?? new TenantOutputs({ maxMatch, maxTokens });
    this.#outputsByTenant.delete(tenant);
    this.#outputsByTenant.set(tenant, outputs);
    return outputs;
  }
}
