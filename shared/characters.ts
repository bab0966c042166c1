import { z } from 'zod';

/** How far a text has come that is read in pieces of bytes. */
export const characterCountSchema = z.object({
  /** Unicode characters that are complete. */
  numCharacters: z.int().nonnegative(),
  /** Of one that is not: bytes that further ones may complete. */
  partialBytes: z.array(z.int().min(0).max(255)).max(3),
});

export type CharacterCount = z.infer<typeof characterCountSchema>;

export const NO_CHARACTERS: CharacterCount = { numCharacters: 0, partialBytes: [] };

const decoder = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true });

/**
 * Reads on. What is no UTF-8 counts as it is shown, by U+FFFD.
 *
 * After "a" and the first byte of "é", one character; after the second byte, two.
 */
export function countCharacters(
  { numCharacters, partialBytes }: CharacterCount,
  bytes: readonly number[],
): CharacterCount {
  const all = [...partialBytes, ...bytes];
  const numPartial = lengthOfPartial(all);
  const whole = decoder.decode(Uint8Array.from(all.slice(0, all.length - numPartial)));
  return {
    numCharacters: numCharacters + [...whole].length,
    partialBytes: all.slice(all.length - numPartial),
  };
}

/** Bytes at the end that begin a character and do not complete it. */
function lengthOfPartial(bytes: readonly number[]): number {
  for (let length = 1; length <= Math.min(3, bytes.length); length += 1) {
    const [lead = 0, second] = bytes.slice(-length);
    if (isContinuation(lead)) continue;
    const isBegun = second === undefined || canFollow(lead, second);
    return isBegun && length < characterLength(lead) ? length : 0;
  }
  return 0;
}

function isContinuation(byte: number): boolean {
  return byte >= 0x80 && byte < 0xc0;
}

/** 1 for what begins no longer one. */
function characterLength(lead: number): number {
  if (lead < 0xc2 || lead > 0xf4) return 1;
  return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/** Neither a longer way to write a shorter character, nor a surrogate, nor beyond Unicode. */
function canFollow(lead: number, second: number): boolean {
  const first = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const last = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  return second >= first && second <= last;
}
