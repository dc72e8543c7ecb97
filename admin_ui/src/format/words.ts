/** Words and identifiers as people read them. */

/** Returns "1 site", "2 sites". */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${new Intl.NumberFormat("en-GB").format(count)} ${count === 1 ? one : many}`;
}

/** Returns the beginning of a digest or an id, enough to tell it from its neighbours. */
export function shortId(id: string, characters = 8): string {
  return id.length <= characters ? id : id.slice(0, characters);
}

/** Returns "Staleness exponent" of "staleness_exponent". */
export function humane(name: string): string {
  const words = name.replaceAll(/[_-]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
