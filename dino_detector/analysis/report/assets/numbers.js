// Numbers as text.

const thousands = new Intl.NumberFormat("en-GB");

/** 1234 as "1,234". */
const count = (value) => thousands.format(value);

/** 1 as "1 image", 3 as "3 images". */
const counted = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;

/** 0.41234 as "0.412"; a dash for null. */
const fraction = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));

/** A score threshold with all decimals, at least two: a rounded one would count other detections. */
const exact = (value) => (Number(value.toFixed(2)) === value ? value.toFixed(2) : String(value));

/** 0.0312 as "+0.031"; negative numbers get a true minus sign. */
function signed(value) {
  if (value === null) return "–";
  const digits = Math.abs(value).toFixed(3);
  if (Number(digits) === 0) return "0.000";
  return (value < 0 ? "−" : "+") + digits;
}

/** 0.034 as "3 %", 0.004 as "0.4 %", 0.0001 as "<0.1 %". */
function percent(share) {
  if (share > 0 && share < 0.0005) return "<0.1 %";
  return `${(100 * share).toFixed(share > 0 && share < 0.01 ? 1 : 0)} %`;
}
