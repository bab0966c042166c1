import type { TokenId } from '../../shared/ids.ts';
import { grown } from './growable.ts';

const NONE = -1;

/**
 * The labeled edges of a graph with very many states of few edges each: one hash table for all of
 * them, and a list of each state's. Typed arrays, since a map per state takes ten times the memory.
 */
export class EdgeTable {
  #sources = new Int32Array(128); // [numEdges], then room to grow
  #tokens = new Int32Array(128);
  #targets = new Int32Array(128);
  #nexts = new Int32Array(128); // the source's next edge
  #firsts = new Int32Array(128).fill(NONE); // [numStates]
  #slots = new Int32Array(256).fill(NONE); // hash -> edge, open addressing, at most half full
  #numEdges = 0;

  get numBytes(): number {
    return 4 * this.#tokens.byteLength + this.#firsts.byteLength + this.#slots.byteLength;
  }

  /** Where an edge leads, -1 for none. */
  target(source: number, tokenId: TokenId): number {
    const edge = this.#slots[this.#slotOf(source, tokenId)]!;
    return edge === NONE ? NONE : this.#targets[edge]!;
  }

  /** The latest edge of a state, -1 for none. */
  first(source: number): number {
    return source < this.#firsts.length ? this.#firsts[source]! : NONE;
  }

  /** The one before it, -1 for none. */
  next(edge: number): number {
    return this.#nexts[edge]!;
  }

  tokenOf(edge: number): TokenId {
    return this.#tokens[edge]!;
  }

  targetOf(edge: number): number {
    return this.#targets[edge]!;
  }

  /** Adds an edge that is not there. */
  add(source: number, tokenId: TokenId, target: number): void {
    const edge = this.#numEdges;
    this.#numEdges += 1;
    if (2 * this.#numEdges > this.#slots.length) this.#rehash();
    this.#reserve(source);
    this.#sources[edge] = source;
    this.#tokens[edge] = tokenId;
    this.#targets[edge] = target;
    this.#nexts[edge] = this.#firsts[source]!;
    this.#firsts[source] = edge;
    this.#slots[this.#slotOf(source, tokenId)] = edge;
  }

  /** Gives a state that has none the edges of another. */
  copy(from: number, to: number): void {
    for (let edge = this.first(from); edge !== NONE; edge = this.#nexts[edge]!) {
      this.add(to, this.#tokens[edge]!, this.#targets[edge]!);
    }
  }

  /** Turns an edge to a new target; `false` when it did not lead to the old one. */
  redirect(source: number, tokenId: TokenId, oldTarget: number, target: number): boolean {
    const edge = this.#slots[this.#slotOf(source, tokenId)]!;
    if (edge === NONE || this.#targets[edge] !== oldTarget) return false;
    this.#targets[edge] = target;
    return true;
  }

  /** The slot of an edge, or the free one where it would go. */
  #slotOf(source: number, tokenId: TokenId): number {
    const mask = this.#slots.length - 1;
    let hash = Math.imul(source, 0x9e3779b1) ^ Math.imul(tokenId, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35);
    let slot = (hash ^ (hash >>> 13)) & mask;
    for (;;) {
      const edge = this.#slots[slot]!;
      if (edge === NONE) return slot;
      if (this.#sources[edge] === source && this.#tokens[edge] === tokenId) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #reserve(source: number): void {
    this.#sources = grown(this.#sources, this.#numEdges);
    this.#tokens = grown(this.#tokens, this.#numEdges);
    this.#targets = grown(this.#targets, this.#numEdges);
    this.#nexts = grown(this.#nexts, this.#numEdges);
    const numFirsts = this.#firsts.length;
    this.#firsts = grown(this.#firsts, source + 1);
    if (this.#firsts.length > numFirsts) this.#firsts.fill(NONE, numFirsts);
  }

  #rehash(): void {
    this.#slots = new Int32Array(2 * this.#slots.length).fill(NONE);
    for (let edge = 0; edge < this.#numEdges - 1; edge += 1) {
      this.#slots[this.#slotOf(this.#sources[edge]!, this.#tokens[edge]!)] = edge;
    }
  }
}
