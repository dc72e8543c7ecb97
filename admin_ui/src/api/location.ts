/** Where the console and the API are: the hub says it in <base>, so any path prefix works. */

const base = new URL(typeof document === "undefined" ? "http://localhost/console/" : document.baseURI);

/** The console's path with its prefix, without a slash at the end: "/console" or "/hansa/console". */
export const consolePath = base.pathname.replace(/\/$/, "");

/** The path that "/v1/..." follows: "" or "/hansa". */
export const apiPath = new URL("../", base).pathname.replace(/\/$/, "");

/** The hub's address as sites are to be told of it. */
export const hubUrl = `${base.origin}${apiPath}`;

/** The URL of an API path, for plain links and streams: the session's cookie goes with them. */
export function apiHref(path: `/v1/${string}`): string {
  return `${apiPath}${path}`;
}
