//===- DevicePowers.cpp - exponentials, logarithms and roots of f64
//-----------===//

#include "passes/DeviceMath.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace gossamer;
using arith::CmpFPredicate;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double ln2 = 0.6931471805599453, ln2Rest = 2.3190468138462996e-17;

/// x = n ln 2 + r, |r| < 0.35. n is exact only as long as it is small.
struct Reduced {
  Value n, r;
};

Reduced reduceExp(const Doubles &d, Value x) {
  Value n = d.nearest(d.mul(x, d.number(1.4426950408889634)));
  Value r = d.fma(n, d.number(-ln2), x);
  return {n, d.fma(n, d.number(-ln2Rest), r)};
}

/// (e^r - 1) / r, |r| < 0.35: its Taylor series, whose first term left out is
/// below 1e-17.
Value expSeries(const Doubles &d, Value r) {
  SmallVector<double> factors;
  double factorial = 87178291200.0; // 14!
  for (int k = 14; k >= 1; --k) {
    factors.push_back(1.0 / factorial);
    factorial /= k;
  }
  return d.polynomial(r, factors);
}

/// y 2^n, n a number: in two steps, since 2^n may be below the least exponent.
Value scaled(const Doubles &d, Value y, Value n) {
  Value exponent = d.toInteger(n);
  Value half = d.integer<arith::ShRSIOp>(exponent, 1);
  y = d.mul(y, d.power(half));
  return d.mul(y, d.power(d.integer<arith::SubIOp>(exponent, half)));
}

/// What `inside` gives of a number between two bounds; below them 0, above them
/// infinite, and NaN of NaN.
template <typename Inside>
Value between(const Doubles &d, Value x, double least, double most,
              Inside inside) {
  Value low = d.compare(CmpFPredicate::OLT, x, least);
  Value high = d.compare(CmpFPredicate::OGT, x, most);
  Value isNan = d.isNan(x);
  Value in = x;
  for (Value outside : {low, high, isNan})
    in = d.select(outside, d.number(0.0), in);
  Value y = inside(in);
  y = d.select(low, d.number(0.0), y);
  y = d.select(high, d.number(infinity), y);
  return d.select(isNan, x, y);
}

Value expand(const Doubles &d, math::ExpOp op) {
  return between(d, op.getOperand(), -745.2, 709.8, [&](Value x) {
    auto [n, r] = reduceExp(d, x);
    return scaled(d, d.fma(expSeries(d, r), r, d.number(1.0)), n);
  });
}

Value expand(const Doubles &d, math::Exp2Op op) {
  return between(d, op.getOperand(), -1076.0, 1024.0, [&](Value x) {
    Value n = d.nearest(x);
    // 2^1024 itself is infinite, and made of two that are not.
    Value r = d.mul(d.sub(x, n), d.number(ln2));
    return scaled(d, d.fma(expSeries(d, r), r, d.number(1.0)), n);
  });
}

/// e^x - 1 = 2^n (e^r - 1) + (2^n - 1), both of which are exact enough while
/// 2^n is small.
Value expand(const Doubles &d, math::ExpM1Op op) {
  Value x = op.getOperand();
  Value isSmall = d.compare(CmpFPredicate::OLT, d.abs(x), 36.0);
  auto [n, r] = reduceExp(d, d.select(isSmall, x, d.number(0.0)));
  Value power = d.power(d.toInteger(n)), less = d.mul(expSeries(d, r), r);
  Value near = d.fma(power, less, d.sub(power, d.number(1.0)));
  // 0 has a sign, which a sum with 0 would lose.
  near = d.select(d.compare(CmpFPredicate::OEQ, n, 0.0), less, near);
  Value far =
      d.sub(math::ExpOp::create(d.b, d.loc, x).getResult(), d.number(1.0));
  return d.select(isSmall, near, far);
}

/// x = 2^exponent f, f in [sqrt(1/2), sqrt(2)), and log f, by the series of the
/// inverse hyperbolic tangent.
struct Logarithm {
  Value exponent, fraction;
};

Logarithm reduceLog(const Doubles &d, Value x) {
  // Below the least normal number: 2^54 times it, and 54 off in the end.
  Value tiny = d.compare(CmpFPredicate::OLT, x, 0x1p-1022);
  Value bits = d.bits(d.select(tiny, d.mul(x, d.number(0x1p54)), x));
  // The exponent counts from sqrt(1/2), so that fractions are around 1.
  constexpr uint64_t root = 0x3fe6a09e667f3bcd;
  Value exponent =
      d.integer<arith::ShRSIOp>(d.integer<arith::SubIOp>(bits, root), 52);
  Value f = d.fromBits(
      d.integer<arith::SubIOp>(bits, d.integer<arith::ShLIOp>(exponent, 52)));
  Value e = arith::SIToFPOp::create(d.b, d.loc, d.b.getF64Type(), exponent);
  e = d.add(e, d.select(tiny, d.number(-54.0), d.number(0.0)));
  Value above = d.sub(f, d.number(1.0));
  Value s = d.div(above, d.add(f, d.number(1.0)));
  Value square = d.mul(s, s);
  SmallVector<double> factors;
  for (int k = 23; k >= 3; k -= 2)
    factors.push_back(2.0 / k);
  // log f = 2 s + s^3 (...), and 2 s = f - 1 - s (f - 1), of which f - 1 is
  // exact: so the rounding of s hardly counts.
  Value rest = d.mul(d.mul(d.polynomial(square, factors), square), s);
  return {e, d.add(above, d.fma(d.neg(s), above, rest))};
}

/// What is said of 0, of infinity, and of what is less than 0.
Value atEnds(const Doubles &d, Value x, Value y) {
  auto where = [&](CmpFPredicate how, double limit, double then) {
    y = d.select(d.compare(how, x, limit), d.number(then), y);
  };
  where(CmpFPredicate::OEQ, 0.0, -infinity);
  where(CmpFPredicate::OEQ, infinity, infinity);
  where(CmpFPredicate::ULT, 0.0, std::numeric_limits<double>::quiet_NaN());
  return y;
}

Value expand(const Doubles &d, math::LogOp op) {
  Value x = op.getOperand();
  auto [e, fraction] = reduceLog(d, x);
  Value sum = d.fma(e, d.number(ln2Rest), fraction);
  return atEnds(d, x, d.fma(e, d.number(ln2), sum));
}

Value expand(const Doubles &d, math::Log2Op op) {
  Value x = op.getOperand();
  auto [e, fraction] = reduceLog(d, x);
  Value rest = d.mul(fraction, d.number(2.0355273740931033e-17));
  rest = d.fma(fraction, d.number(1.4426950408889634), rest);
  return atEnds(d, x, d.add(e, rest));
}

Value expand(const Doubles &d, math::Log10Op op) {
  Value x = op.getOperand();
  auto [e, fraction] = reduceLog(d, x);
  Value rest = d.mul(fraction, d.number(1.098319650216765e-17));
  rest = d.fma(e, d.number(-2.8037281277851704e-18), rest);
  rest = d.fma(fraction, d.number(0.4342944819032518), rest);
  return atEnds(d, x, d.fma(e, d.number(0.3010299956639812), rest));
}

/// x^y = e^(y log |x|), with what was rounded off of the logarithm and of the
/// product: still an error in y log |x| is one of the result.
Value powerOf(const Doubles &d, Value size, Value y) {
  auto [e, fraction] = reduceLog(d, size);
  Value sum = d.fma(e, d.number(ln2Rest), fraction);
  Value log = d.fma(e, d.number(ln2), sum);
  Value rest = d.add(d.fma(e, d.number(ln2), d.neg(log)), sum);
  log = atEnds(d, size, log);
  Value product = d.mul(y, log);
  Value off = d.add(d.fma(y, log, d.neg(product)), d.mul(y, rest));
  Value power = math::ExpOp::create(d.b, d.loc, product);
  Value whole = d.fma(power, off, power);
  // Where something is infinite, nothing was rounded.
  Value isFinite = d.compare(CmpFPredicate::OLT, d.abs(whole), infinity);
  return d.select(isFinite, whole, power);
}

Value expand(const Doubles &d, math::PowFOp op) {
  Value x = op.getLhs(), y = op.getRhs(), one = d.number(1.0);
  auto both = [&](Value a, Value b) { return d.integer<arith::AndIOp>(a, b); };
  auto no = [&](Value a) {
    Value isTrue = arith::ConstantOp::create(d.b, d.loc, d.b.getBoolAttr(true));
    return d.integer<arith::XOrIOp>(a, isTrue);
  };
  auto isWhole = [&](Value z) {
    Value floor = math::FloorOp::create(d.b, d.loc, z);
    return d.compare(CmpFPredicate::OEQ, floor, z);
  };
  Value size = d.abs(x), power = powerOf(d, size, y);
  Value whole = isWhole(y), even = isWhole(d.mul(d.number(0.5), y));
  Value isNegative = arith::CmpIOp::create(
      d.b, d.loc, arith::CmpIPredicate::slt, d.bits(x), d.word(0));
  // (-1)^y is 1 or -1 for every number, infinite ones, too; 1^y is 1 anyway.
  Value isUnit = both(d.compare(CmpFPredicate::OEQ, size, 1.0),
                      d.compare(CmpFPredicate::ORD, y, y));
  power = d.select(isUnit, one, power);
  power = d.select(both(isNegative, d.compare(CmpFPredicate::ONE, y, 0.0)),
                   d.select(both(whole, no(even)), d.neg(power), power), power);
  Value hasRoot = d.compare(CmpFPredicate::OEQ, size, infinity);
  Value below = d.compare(CmpFPredicate::OLT, x, 0.0);
  Value noReal = both(both(below, no(hasRoot)), no(whole));
  power = d.select(noReal, d.number(std::numeric_limits<double>::quiet_NaN()),
                   power);
  power = d.select(d.compare(CmpFPredicate::OEQ, x, 1.0), one, power);
  return d.select(d.compare(CmpFPredicate::OEQ, y, 0.0), one, power);
}

/// log(1 + x): of u, the rounded 1 + x, and what was rounded off, over u.
Value expand(const Doubles &d, math::Log1pOp op) {
  Value x = op.getOperand(), one = d.number(1.0);
  Value u = d.add(one, x);
  Value isLarge = d.compare(CmpFPredicate::OGT, x, 1.0);
  Value off =
      d.select(isLarge, d.sub(one, d.sub(u, x)), d.sub(x, d.sub(u, one)));
  Value share = d.div(off, u);
  Value y = math::LogOp::create(d.b, d.loc, u);
  // At the ends the logarithm has said it all; the sign of 0 is x's.
  Value hasShare = d.compare(CmpFPredicate::ORD, share, share);
  y = d.select(hasShare, d.add(y, share), y);
  return d.select(d.compare(CmpFPredicate::OEQ, x, 0.0), x, y);
}

/// The cube root: x = 8^q m, m in [1, 8), and y -> y - y (y^3 - m) / (2 y^3 +
/// m), which triples the digits that are right.
Value expand(const Doubles &d, math::CbrtOp op) {
  Value x = op.getOperand(), size = d.abs(x);
  Value tiny = d.compare(CmpFPredicate::OLT, size, 0x1p-1022);
  Value bits = d.bits(d.select(tiny, d.mul(size, d.number(0x1p54)), size));
  // From above 0, so that quotients are rounded down.
  Value exponent = d.integer<arith::ShRUIOp>(bits, 52);
  Value third = d.integer<arith::DivUIOp>(
      d.integer<arith::AddIOp>(exponent, 3 * 1024 - 1023), 3);
  Value q = d.integer<arith::SubIOp>(third, 1024);
  Value m = d.fromBits(d.integer<arith::SubIOp>(
      bits, d.integer<arith::ShLIOp>(d.integer<arith::MulIOp>(q, 3), 52)));
  Value y = d.polynomial(m, {-0.0136, 0.259, 0.77}); // within 3 %
  for (int step = 0; step < 3; ++step) {
    Value cube = d.mul(d.mul(y, y), y);
    Value share = d.div(d.sub(cube, m), d.fma(cube, d.number(2.0), m));
    y = d.fma(d.neg(y), share, y);
  }
  Value scale = d.power(
      d.integer<arith::SubIOp>(q, d.select(tiny, d.word(18), d.word(0))));
  y = d.withSign(d.mul(y, scale), x);
  // 0, infinity and NaN are their own.
  Value isZero = d.compare(CmpFPredicate::OEQ, x, 0.0);
  Value isFinite = d.compare(CmpFPredicate::OLT, size, infinity);
  return d.select(isZero, x, d.select(isFinite, y, x));
}

/// (e^x -+ e^-x) / 2; where e^x is infinite, and its half need not be, as a
/// product of e^(x / 2).
Value hyperbolic(const Doubles &d, Value size, Value usual) {
  Value half = d.number(0.5);
  Value root = math::ExpOp::create(d.b, d.loc, d.mul(half, size));
  Value large = d.mul(d.mul(half, root), root);
  return d.select(d.compare(CmpFPredicate::OGT, size, 700.0), large, usual);
}

Value expand(const Doubles &d, math::SinhOp op) {
  Value x = op.getOperand(), size = d.abs(x);
  Value less = math::ExpM1Op::create(d.b, d.loc, size);
  Value y = d.add(less, d.div(less, d.add(less, d.number(1.0))));
  return d.withSign(hyperbolic(d, size, d.mul(d.number(0.5), y)), x);
}

Value expand(const Doubles &d, math::CoshOp op) {
  Value size = d.abs(op.getOperand()), half = d.number(0.5);
  Value power = math::ExpOp::create(d.b, d.loc, size);
  return hyperbolic(d, size, d.fma(half, power, d.div(half, power)));
}

/// log(x + r), r the root: log(1 + what is more than 1), which keeps what is
/// small; and of large x log(2 x), since squares would be infinite.
Value logOfSum(const Doubles &d, Value x, Value more) {
  Value usual = math::Log1pOp::create(d.b, d.loc, more);
  Value large =
      d.add(math::LogOp::create(d.b, d.loc, x).getResult(), d.number(ln2));
  return d.select(d.compare(CmpFPredicate::OGT, x, 0x1p30), large, usual);
}

Value expand(const Doubles &d, math::AsinhOp op) {
  Value x = op.getOperand(), size = d.abs(x), one = d.number(1.0);
  Value square = d.mul(size, size);
  Value root = math::SqrtOp::create(d.b, d.loc, d.add(square, one));
  Value more = d.add(size, d.div(square, d.add(root, one)));
  return d.withSign(logOfSum(d, size, more), x);
}

/// Below 1 a root is NaN.
Value expand(const Doubles &d, math::AcoshOp op) {
  Value x = op.getOperand(), one = d.number(1.0);
  Value more = d.sub(x, one);
  Value roots[] = {math::SqrtOp::create(d.b, d.loc, more),
                   math::SqrtOp::create(d.b, d.loc, d.add(x, one))};
  return logOfSum(d, x, d.fma(roots[0], roots[1], more));
}

Value expand(const Doubles &d, math::AtanhOp op) {
  Value x = op.getOperand(), size = d.abs(x);
  Value share = d.div(size, d.sub(d.number(1.0), size));
  Value log = math::Log1pOp::create(d.b, d.loc, d.mul(d.number(2.0), share));
  return d.withSign(d.mul(d.number(0.5), log), x);
}

} // namespace

void gossamer::addPowerPatterns(RewritePatternSet &patterns) {
  patterns.add<
      ExpandDouble<math::AcoshOp, expand>, ExpandDouble<math::AsinhOp, expand>,
      ExpandDouble<math::AtanhOp, expand>, ExpandDouble<math::CbrtOp, expand>,
      ExpandDouble<math::CoshOp, expand>, ExpandDouble<math::Exp2Op, expand>,
      ExpandDouble<math::ExpM1Op, expand>, ExpandDouble<math::ExpOp, expand>,
      ExpandDouble<math::Log10Op, expand>, ExpandDouble<math::Log1pOp, expand>,
      ExpandDouble<math::Log2Op, expand>, ExpandDouble<math::LogOp, expand>,
      ExpandDouble<math::PowFOp, expand>, ExpandDouble<math::SinhOp, expand>>(
      patterns.getContext(), PatternBenefit(2));
}
