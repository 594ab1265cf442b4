/** How figures are written. */

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTH = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const whole = (value) => WHOLE.format(value);
export const tenth = (value) => TENTH.format(value);
export const percent = (share) => `${WHOLE.format(share * 100)} %`;
export const count = (value, noun) => `${WHOLE.format(value)} ${noun}${value === 1 ? "" : "s"}`;
