/** API keys: one for each server, in this tab's session storage, sent to that server only. */

const PREFIX = "stepgrpo.key ";

export function keyFor(origin) {
  return sessionStorage.getItem(PREFIX + origin) ?? "";
}

export function keepKey(origin, key) {
  if (key) sessionStorage.setItem(PREFIX + origin, key);
  else sessionStorage.removeItem(PREFIX + origin);
}
