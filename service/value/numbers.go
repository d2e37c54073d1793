package value

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"postern/service/catalog"
)

// number is a decimal number. Its exponent has at most three digits.
var number = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$`)

// intText accepts whole numbers in every spelling: 5, as Dart's 5.0, and with an
// exponent, which JavaScript uses from 1e21.
func intText(bits int) func(jsontext.Kind, string) (string, error) {
	return func(_ jsontext.Kind, text string) (string, error) {
		switch text {
		case "true":
			return "1", nil
		case "false":
			return "0", nil
		}
		if n, err := strconv.ParseInt(text, 10, bits); err == nil {
			return strconv.FormatInt(n, 10), nil
		}
		if !number.MatchString(text) {
			return "", errors.New("send a whole number")
		}
		whole, exact := wholePart(text, 0)
		if !exact {
			return "", errors.New("send a whole number")
		}
		if _, err := strconv.ParseInt(whole, 10, bits); err != nil {
			least := int64(-1) << (bits - 1)
			return "", fmt.Errorf("send a whole number from %d to %d", least, -(least + 1))
		}
		return whole, nil
	}
}

func numberText(kind jsontext.Kind, text string) (string, error) {
	switch {
	case text == "true":
		return "1", nil
	case text == "false":
		return "0", nil
	case number.MatchString(text):
		return text, nil
	case kind == '"' && (text == "NaN" || text == "Infinity" || text == "-Infinity"):
		return text, nil
	}
	return "", errors.New("send a number")
}

// checkPrecision checks the declared precision of a numeric(p, s). Postgres would check it
// too, but not always if there is no row to change: that depends on how it has planned
// the statement.
func checkPrecision(c *catalog.Column, text string) error {
	precision, scale, limited := numericLimits(c)
	if !limited || text == "NaN" {
		return nil
	}
	problem := fmt.Errorf("send a number with at most %d digits before the decimal point", max(precision-scale, 0))
	if !number.MatchString(text) { // infinite
		return problem
	}
	whole, _ := wholePart(text, scale)
	digits := strings.TrimLeft(whole, "-0")
	switch {
	case len(digits) > precision:
		return problem
	case len(digits) < precision || strings.Trim(digits, "9") != "":
		return nil
	}
	next, _ := wholePart(text, scale+1)
	if next[len(next)-1] >= '5' { // it is rounded up
		return problem
	}
	return nil
}

// numericLimits returns the p and s of a numeric(p, s). limited reports whether there are
// any. The modifier has p in its high bits, and s in its low 11 bits, which may be
// negative; see numeric.c.
func numericLimits(c *catalog.Column) (precision, scale int, limited bool) {
	if c.Type.Name != "numeric" || c.Modifier < modifierHeader {
		return 0, 0, false
	}
	packed := c.Modifier - modifierHeader
	return int(packed >> 16 & 0xffff), int(packed&0x7ff^1024) - 1024, true
}

// wholePart moves the decimal point of a number to the right by some places, and
// cuts the fraction off. exact reports whether the fraction was zero. The text
// must match number. The time is linear in the digits, unlike that of math/big.
//
//	wholePart("-12.5", 0)   is  "-12", false
//	wholePart("1.5e3", 0)   is "1500", true
//	wholePart("1.2345", 3)  is "1234", false
func wholePart(text string, places int) (whole string, exact bool) {
	sign := ""
	if text[0] == '-' {
		sign = "-"
	}
	text = strings.TrimLeft(text, "+-")
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		exponent, _ := strconv.Atoi(text[at+1:])
		text, places = text[:at], places+exponent
	}
	before, after, _ := strings.Cut(text, ".")
	digits, point := before+after, len(before)+places
	digits += strings.Repeat("0", max(point-len(digits), 0))
	point = max(point, 0)
	whole = cmp.Or(strings.TrimLeft(digits[:point], "0"), "0")
	if whole != "0" {
		whole = sign + whole
	}
	return whole, strings.Trim(digits[point:], "0") == ""
}
