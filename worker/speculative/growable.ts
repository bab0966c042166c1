/** The same numbers with room for `length`; the array itself where it has that. */
export function grown(array: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  if (length <= array.length) return array;
  const larger = new Int32Array(Math.max(2 * array.length, length));
  larger.set(array);
  return larger;
}
