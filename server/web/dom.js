/** Elements, made without markup: what a model or a server says only ever becomes text. */

/**
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Write a text only where it changed, so that nothing is announced or laid out twice. */
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
