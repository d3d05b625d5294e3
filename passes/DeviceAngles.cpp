//===- DeviceAngles.cpp - sine, cosine and their inverses of f64
//--------------===//

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/DeviceMath.h"

#include <limits>

using namespace mlir;
using namespace gossamer;
using arith::CmpFPredicate;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// pi / 2, as the sum of three numbers.
constexpr double quarter = 1.5707963267948966,
                 quarterRest = 6.123233995736766e-17,
                 quarterLast = -1.4973849048591698e-33;

/// A size of at least 0 as a number of quarter turns (i64, its last two bits)
/// and what is left of it: high + low, between -pi/4 and pi/4.
struct Angle {
  Value turns, high, low;
};

/// Below 2^31: quarter turns are subtracted, in three parts. Of the first two,
/// nothing is rounded off that is not kept.
Angle reduceSmall(const Doubles &d, Value size) {
  Value n = d.nearest(d.mul(size, d.number(0.6366197723675814)));
  Value minus = d.neg(n);
  Value rest = d.fma(minus, d.number(quarter), size); // exact
  Value second = d.mul(minus, d.number(quarterRest));
  Value off = d.fma(minus, d.number(quarterRest), d.neg(second));
  Value high = d.add(rest, second);
  Value added = d.sub(high, rest);
  Value low = d.add(d.sub(rest, d.sub(high, added)), d.sub(second, added));
  low = d.add(low, d.fma(minus, d.number(quarterLast), off));
  return {d.toInteger(n), high, low};
}

/// 2 / pi, after 64 bits for what is before the point.
constexpr uint64_t inverseQuarter[] = {0,
                                       0xa2f9836e4e441529,
                                       0xfc2757d1f534ddc0,
                                       0xdb6295993c439041,
                                       0xfe5163abdebbc561,
                                       0xb7246e3a424dd2e0,
                                       0x06492eea09d1921c,
                                       0xfe1deb1cb129a73e,
                                       0xe88235f52ebb4484,
                                       0xe99c7026b45f7e41,
                                       0x3991d639835339f4,
                                       0x9c845f8bbdf9283b,
                                       0x1ff897ffde05980f,
                                       0xef2f118b5a0a6d1f,
                                       0x6d367ecf27cb09b7,
                                       0x4f463f669e5fea2d,
                                       0x7527bac7ebe5f17b,
                                       0x3d0739f78a5292ea,
                                       0x6bfb5fb11f8d5d08,
                                       0x56033046fc7b6bab};

/// The first 64 bits of two words after the first `count`, which is below 64.
Value shiftedPair(const Doubles &d, Value first, Value second, Value count) {
  Value left = d.integer<arith::ShLIOp>(first, count);
  Value back = d.integer<arith::SubIOp>(d.word(63), count);
  Value right = d.integer<arith::ShRUIOp>(second, 1);
  return d.integer<arith::OrIOp>(left, d.integer<arith::ShRUIOp>(right, back));
}

/// From 2^31 on: the size, an integer m times 2^e, is multiplied by those 192
/// bits of 2 / pi that matter: those before only make whole turns, and those
/// behind are below 2^-137 of a quarter. No number is nearer than 2^-63 to a
/// multiple of one, so that what is left is right to the last bit.
Angle reduceLarge(const Doubles &d, Value size) {
  Value bits = d.bits(size);
  Value exponent = d.integer<arith::ShRUIOp>(bits, 52);
  constexpr uint64_t hidden = uint64_t(1) << 52;
  Value m = d.integer<arith::OrIOp>(d.integer<arith::AndIOp>(bits, hidden - 1),
                                    hidden);
  // The bit that counts two turns, with 64 before the point: e + 62.
  Value start = d.integer<arith::SubIOp>(exponent, 1075 - 62);
  Value word = d.integer<arith::ShRUIOp>(start, 6);
  Value count = d.integer<arith::AndIOp>(start, 63);
  Value words[4];
  for (int n = 0; n < 4; ++n) {
    words[n] = d.word(inverseQuarter[n]);
    for (uint64_t k = 1; k + 3 < std::size(inverseQuarter); ++k) {
      Value here = arith::CmpIOp::create(d.b, d.loc, arith::CmpIPredicate::eq,
                                         word, d.word(k));
      words[n] = d.select(here, d.word(inverseQuarter[k + n]), words[n]);
    }
  }
  Value factors[3];
  for (int n = 0; n < 3; ++n)
    factors[n] = shiftedPair(d, words[n], words[n + 1], count);
  auto last = arith::MulUIExtendedOp::create(d.b, d.loc, m, factors[2]);
  auto middle = arith::MulUIExtendedOp::create(d.b, d.loc, m, factors[1]);
  Value q2 = last.getLow();
  Value q1 = d.integer<arith::AddIOp>(middle.getLow(), last.getHigh());
  Value carry = arith::CmpIOp::create(d.b, d.loc, arith::CmpIPredicate::ult, q1,
                                      middle.getLow());
  carry = arith::ExtUIOp::create(d.b, d.loc, d.b.getI64Type(), carry);
  Value q0 = d.integer<arith::MulIOp>(m, factors[0]);
  q0 = d.integer<arith::AddIOp>(
      q0, d.integer<arith::AddIOp>(middle.getHigh(), carry));

  // Two bits are quarters; the others a fraction of one, taken from below if
  // that is nearer.
  Value turns = d.integer<arith::ShRUIOp>(q0, 62);
  Value above = shiftedPair(d, q0, q1, d.word(2));
  Value below = shiftedPair(d, q1, q2, d.word(2));
  Value isNegative = arith::CmpIOp::create(
      d.b, d.loc, arith::CmpIPredicate::slt, above, d.word(0));
  Value up = arith::ExtUIOp::create(d.b, d.loc, d.b.getI64Type(), isNegative);
  turns = d.integer<arith::AddIOp>(turns, up);
  Value sign = d.integer<arith::SubIOp>(d.word(0), up); // all bits, or none
  above = d.integer<arith::XOrIOp>(above, sign);
  below = d.integer<arith::XOrIOp>(below, sign); // one less, of 2^128
  Value zeros = math::CountLeadingZerosOp::create(d.b, d.loc, above);
  zeros = arith::MinUIOp::create(d.b, d.loc, zeros, d.word(63));
  Value first = shiftedPair(d, above, below, zeros);
  Value second = d.integer<arith::ShLIOp>(below, zeros);
  auto asNumber = [&](Value word, double scale) {
    Value x = arith::UIToFPOp::create(d.b, d.loc, d.b.getF64Type(), word);
    return d.mul(x, d.number(scale));
  };
  Value head = asNumber(d.integer<arith::ShRUIOp>(first, 11), 0x1p-53);
  Value tail = d.integer<arith::OrIOp>(d.integer<arith::ShLIOp>(first, 53),
                                       d.integer<arith::ShRUIOp>(second, 11));
  Value rest = asNumber(tail, 0x1p-117);
  Value scale = d.power(d.integer<arith::SubIOp>(d.word(0), zeros));
  scale = d.withSign(scale, d.fromBits(sign));
  head = d.mul(head, scale);
  rest = d.mul(rest, scale);

  Value high = d.mul(head, d.number(quarter));
  Value off = d.fma(head, d.number(quarter), d.neg(high));
  off = d.fma(rest, d.number(quarter), off);
  return {turns, high, d.fma(head, d.number(quarterRest), off)};
}

Angle reduce(const Doubles &d, Value size) {
  Value isLarge = d.compare(CmpFPredicate::OGE, size, 0x1p31);
  Value isSmall = d.compare(CmpFPredicate::OLT, size, 0x1p31);
  Type types[] = {d.b.getI64Type(), d.b.getF64Type(), d.b.getF64Type()};
  auto branch = scf::IfOp::create(d.b, d.loc, types, isLarge,
                                  /*withElseRegion=*/true);
  auto yield = [&](Block *block, auto angleOf) {
    OpBuilder in = OpBuilder::atBlockEnd(block);
    Angle angle = angleOf(Doubles(in, d.loc));
    scf::YieldOp::create(in, d.loc,
                         ValueRange{angle.turns, angle.high, angle.low});
  };
  yield(branch.thenBlock(),
        [&](const Doubles &in) { return reduceLarge(in, size); });
  yield(branch.elseBlock(), [&](const Doubles &in) {
    return reduceSmall(in, in.select(isSmall, size, in.number(0.0)));
  });
  return {branch.getResult(0), branch.getResult(1), branch.getResult(2)};
}

/// 1 / n!, -1 / (n - 2)!, ..., from the least that matters to the first.
SmallVector<double> alternating(int most, int least) {
  SmallVector<double> factors;
  for (int n = most; n >= least; n -= 2) {
    double factorial = 1.0;
    for (int k = 2; k <= n; ++k)
      factorial *= k;
    factors.push_back((n / 2 % 2 ? -1.0 : 1.0) / factorial);
  }
  return factors;
}

/// The sine and the cosine of what is left of an angle, by their series, whose
/// first terms left out are below 1e-19.
std::pair<Value, Value> seriesOf(const Doubles &d, const Angle &angle) {
  Value r = angle.high, low = angle.low;
  Value one = d.number(1.0), half = d.number(0.5);
  Value square = d.mul(r, r);
  Value cube = d.mul(square, r);
  Value slope = d.fma(d.neg(half), square, one); // cos, nearly
  Value odd = d.polynomial(square, alternating(19, 3));
  Value sine = d.add(r, d.fma(cube, odd, d.mul(low, slope)));

  Value even = d.polynomial(square, alternating(18, 4));
  Value halved = d.mul(half, square);
  Value begin = d.sub(one, halved);
  Value off = d.sub(d.sub(one, begin), halved);
  Value lost = d.mul(half, d.fma(r, r, d.neg(square)));
  Value small = d.sub(d.fma(d.neg(r), low, off), lost);
  return {sine, d.add(begin, d.fma(d.mul(square, square), even, small))};
}

/// The same in f32, from what is left of the angle in f64, rounded.
std::pair<Value, Value> shortSeriesOf(const Doubles &d, const Angle &angle) {
  Type type = d.b.getF32Type();
  auto number = [&](double value) -> Value {
    return arith::ConstantOp::create(d.b, d.loc, d.b.getFloatAttr(type, value));
  };
  auto sumOf = [&](Value x, ArrayRef<double> factors) {
    Value sum = number(factors.front());
    for (double factor : factors.drop_front())
      sum = d.fma(sum, x, number(factor));
    return sum;
  };
  Value r = arith::TruncFOp::create(d.b, d.loc, type, angle.high);
  Value square = d.mul(r, r);
  Value sine = d.fma(d.mul(square, r), sumOf(square, alternating(9, 3)), r);
  return {sine, sumOf(square, alternating(10, 0))};
}

/// sin, or cos, which is a quarter ahead, of f64 or f32: the series that the
/// turns ask for, and its sign.
Value sineOf(const Doubles &d, Value x, bool isCosine) {
  bool isShort = x.getType().isF32();
  Value wide =
      isShort ? arith::ExtFOp::create(d.b, d.loc, d.b.getF64Type(), x) : x;
  Angle angle = reduce(d, d.abs(wide));
  auto [sine, cosine] = isShort ? shortSeriesOf(d, angle) : seriesOf(d, angle);
  Value turns = angle.turns;
  if (isCosine)
    turns = d.integer<arith::AddIOp>(turns, 1);
  auto bit = [&](uint64_t which) -> Value {
    return arith::CmpIOp::create(d.b, d.loc, arith::CmpIPredicate::ne,
                                 d.integer<arith::AndIOp>(turns, which),
                                 d.word(0));
  };
  Value y = d.select(bit(1), cosine, sine);
  Value isOther = bit(2);
  if (!isCosine) {
    Value isNegative = arith::CmpIOp::create(
        d.b, d.loc, arith::CmpIPredicate::slt, d.bits(wide), d.word(0));
    isOther = arith::XOrIOp::create(d.b, d.loc, isOther, isNegative);
  }
  y = d.select(isOther, d.neg(y), y);
  Value isFinite = d.compare(CmpFPredicate::OLT, d.abs(wide), infinity);
  return d.select(isFinite, y, d.sub(x, x)); // NaN
}

Value expand(const Doubles &d, math::SinOp op) {
  return sineOf(d, op.getOperand(), /*isCosine=*/false);
}

Value expand(const Doubles &d, math::CosOp op) {
  return sineOf(d, op.getOperand(), /*isCosine=*/true);
}

/// atan(k / 4), and pi / 2 less it, each as the sum of two numbers.
constexpr double arcs[5][4] = {
    {0.0, 0.0, 1.5707963267948966, 6.123233995736766e-17},
    {0.24497866312686414, 1.0698755618734451e-17, 1.3258176636680326,
     -8.824429373951136e-17},
    {0.4636476090008061, 2.2698777452961687e-17, 1.1071487177940904,
     9.40447137356638e-17},
    {0.6435011087932844, 1.5834785051444286e-17, 0.9272952180016122,
     4.5397554905923374e-17},
    {0.7853981633974483, 3.061616997868383e-17, 0.7853981633974483,
     3.061616997868383e-17}};

/// The angle of a point: of the smaller coordinate over the larger one, a / b,
/// which is atan(k / 4) and the arc of (a - b k / 4) / (b + a k / 4), below
/// 1/7, by its series; from there by symmetry.
Value expand(const Doubles &d, math::Atan2Op op) {
  Value y = op.getLhs(), x = op.getRhs();
  Value one = d.number(1.0), zero = d.number(0.0);
  Value sizes[] = {d.abs(y), d.abs(x)};
  Value steep = d.compare(CmpFPredicate::OGT, sizes[0], sizes[1]);
  Value a = d.select(steep, sizes[1], sizes[0]);
  Value b = d.select(steep, sizes[0], sizes[1]);
  // Infinite is as good as 1, beside nothing else than 0 or another.
  Value isInfinite = d.compare(CmpFPredicate::OEQ, b, infinity);
  Value both = d.compare(CmpFPredicate::OEQ, a, infinity);
  a = d.select(isInfinite, d.select(both, one, zero), a);
  b = d.select(isInfinite, one, b);
  b = d.select(d.compare(CmpFPredicate::OEQ, b, 0.0), one, b);
  // Sums must not become infinite, nor what is divided by be inexact.
  Value scale = d.select(d.compare(CmpFPredicate::OLT, b, 0x1p-900),
                         d.number(0x1p100), one);
  scale = d.select(d.compare(CmpFPredicate::OGT, b, 0x1p1000),
                   d.number(0x1p-100), scale);
  a = d.mul(a, scale);
  b = d.mul(b, scale);

  Value c = d.nearest(d.mul(d.div(a, b), d.number(4.0)));
  Value high = zero, rest = zero;
  for (int k = 0; k < 5; ++k) {
    Value here = d.compare(CmpFPredicate::OEQ, c, static_cast<double>(k));
    auto pick = [&](int n) {
      return d.select(steep, d.number(arcs[k][n + 2]), d.number(arcs[k][n]));
    };
    high = d.select(here, pick(0), high);
    rest = d.select(here, pick(1), rest);
  }
  c = d.mul(c, d.number(0.25));
  Value t = d.div(d.fma(d.neg(c), b, a), d.fma(c, a, b));
  Value square = d.mul(t, t);
  SmallVector<double> factors;
  for (int k = 19; k >= 3; k -= 2)
    factors.push_back((k / 2 % 2 ? -1.0 : 1.0) / k);
  Value series = d.fma(d.mul(square, t), d.polynomial(square, factors), t);
  Value arc = d.add(rest, d.select(steep, d.neg(series), series));

  // Behind the y axis, what is left of half a turn.
  Value isBehind = arith::CmpIOp::create(d.b, d.loc, arith::CmpIPredicate::slt,
                                         d.bits(x), d.word(0));
  Value turned = d.sub(d.sub(d.number(2 * quarter), high),
                       d.sub(arc, d.number(2 * quarterRest)));
  Value angle = d.select(isBehind, turned, d.add(high, arc));
  angle = d.withSign(angle, y);
  Value hasNan = d.compare(CmpFPredicate::UNO, x, y);
  return d.select(hasNan, d.add(x, y), angle);
}

Value angleOf(const Doubles &d, Value y, Value x) {
  return math::Atan2Op::create(d.b, d.loc, y, x);
}

Value expand(const Doubles &d, math::AtanOp op) {
  return angleOf(d, op.getOperand(), d.number(1.0));
}

/// The other side of a triangle in the unit circle; beyond it NaN.
Value otherSide(const Doubles &d, Value x) {
  Value product = d.mul(d.sub(d.number(1.0), x), d.add(d.number(1.0), x));
  return math::SqrtOp::create(d.b, d.loc, product);
}

Value expand(const Doubles &d, math::AsinOp op) {
  return angleOf(d, op.getOperand(), otherSide(d, op.getOperand()));
}

Value expand(const Doubles &d, math::AcosOp op) {
  return angleOf(d, otherSide(d, op.getOperand()), op.getOperand());
}

/// Of f32, sine and cosine have a short series of their own.
template <typename Op> struct ExpandSine : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op, PatternRewriter &b) const override {
    if (!op.getType().isF32())
      return b.notifyMatchFailure(op, "not of f32");
    b.replaceOp(op, expand(Doubles(b, op.getLoc()), op));
    return success();
  }
};

} // namespace

void gossamer::addAnglePatterns(RewritePatternSet &patterns) {
  patterns.add<
      ExpandDouble<math::AcosOp, expand>, ExpandDouble<math::AsinOp, expand>,
      ExpandDouble<math::Atan2Op, expand>, ExpandDouble<math::AtanOp, expand>,
      ExpandDouble<math::CosOp, expand>, ExpandDouble<math::SinOp, expand>,
      ExpandSine<math::CosOp>, ExpandSine<math::SinOp>>(patterns.getContext(),
                                                        PatternBenefit(2));
}
