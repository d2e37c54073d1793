package upload

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxColumns = 1600 // of a table in Postgres, and members of an object
	maxNames   = 1000 // that are remembered, so that many different ones take no more memory
)

// decoder reads JSON. Its values are slices of what was sent. It can be used for one part of
// a request after the other.
type decoder struct {
	jsontext.Decoder
	buffer  bytes.Buffer
	sent    []byte
	form    form
	most    int               // operations of a transaction
	ids     []string          // of the transactions of a list's operations
	names   map[string]string // of tables and columns of the request, each once; may be nil
	row     []Member          // the one that is read
	seen    [5]nameSet        // the names of the objects that are read, by depth
	lenient bool              // it forgives what a string holds, a name that appears twice, and a number that is no id
}

// newDecoder returns a decoder of a readable copy of what was sent, in which each part has
// the same place.
func newDecoder(readable, sent []byte, lenient bool) *decoder {
	d := &decoder{lenient: lenient}
	d.reset(readable, sent)
	return d
}

func (d *decoder) reset(readable, sent []byte) {
	d.buffer = *bytes.NewBuffer(readable)
	d.Reset(&d.buffer, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(d.lenient))
	d.sent, d.ids = sent, nil
}

// newDecoderOfRequest returns a decoder of the transactions of a request.
func newDecoderOfRequest() *decoder { return &decoder{names: map[string]string{}} }

// array reads an array, or null as not present. element reads each element.
func (d *decoder) array(element func() error) (present bool, err error) {
	switch d.PeekKind() {
	case 'n':
		return false, d.SkipValue()
	case '[':
	default:
		return false, d.mustBe("an array")
	}
	if _, err := d.ReadToken(); err != nil {
		return false, err
	}
	for d.PeekKind() != ']' {
		if err := element(); err != nil {
			return true, err
		}
	}
	_, err = d.ReadToken()
	return true, err
}

// object reads an object. member reads the value of each member.
func (d *decoder) object(member func(name string) error) error {
	if d.PeekKind() != '{' {
		return d.mustBe("an object")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	d.seen[d.StackDepth()].clear()
	for d.PeekKind() != '}' {
		name, _, err := d.text(d.names)
		if err != nil {
			return err
		}
		if err := d.checkName(name); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// checkName refuses a name that appears twice in the object that is read. Names inside
// values do not matter here: package value checks them if the column is JSON.
func (d *decoder) checkName(name string) error {
	if d.lenient {
		return nil
	}
	seen := &d.seen[d.StackDepth()]
	switch {
	case !seen.add(name):
		return fault{&Malformed{dotted(d.StackPointer()), "appears twice in the same object"}}
	case len(seen.list) > maxColumns:
		return fault{&Malformed{dotted(d.StackPointer().Parent()), fmt.Sprintf("has more than %d members, and no table has as many columns", maxColumns)}}
	}
	return nil
}

// nameSet is a set of names. It is a list as long as it is short.
type nameSet struct {
	list []string
	all  map[string]bool // if the list is long
}

func (s *nameSet) clear() { s.list, s.all = s.list[:0], nil }

// add adds a name. It returns false if the set has it.
func (s *nameSet) add(name string) bool {
	const short = 32
	if s.all == nil && len(s.list) == short {
		s.all = map[string]bool{}
		for _, known := range s.list {
			s.all[known] = true
		}
	}
	if s.all[name] || s.all == nil && slices.Contains(s.list, name) {
		return false
	}
	if s.list = append(s.list, name); s.all != nil {
		s.all[name] = true
	}
	return true
}

// value reads a value as a slice of what was sent.
func (d *decoder) value() (jsontext.Value, error) {
	value, err := d.ReadValue()
	end := int(d.InputOffset())
	return d.sent[end-len(value) : end : end], err
}

// text reads a string. sent is false if it is null. Equal ones of names are one string in
// memory.
func (d *decoder) text(names map[string]string) (text string, sent bool, err error) {
	if kind := d.PeekKind(); kind == 'n' {
		return "", false, d.SkipValue()
	} else if kind != '"' {
		return "", false, d.mustBe("a string")
	}
	value, err := d.ReadValue()
	if err != nil {
		return "", false, err
	}
	quoted := value[1 : len(value)-1]
	if known, ok := names[string(quoted)]; ok {
		return known, true, nil
	}
	plain := !d.lenient && bytes.IndexByte(quoted, '\\') < 0
	if plain {
		text = string(quoted)
	} else {
		unquoted, err := jsontext.AppendUnquote(nil, value)
		if err != nil && !d.lenient {
			return "", false, err
		}
		text = string(unquoted)
	}
	if plain && names != nil && len(names) < maxNames {
		names[text] = text
	}
	return text, true, nil
}

// integer reads a whole number in any spelling, such as 1.0 and 1e3, as decimal digits;
// null as an empty text.
func (d *decoder) integer() (string, error) {
	if kind := d.PeekKind(); kind == 'n' {
		return "", d.SkipValue()
	} else if kind != '0' {
		return "", d.mustBe("an integer")
	}
	sent, err := d.ReadValue()
	if err != nil {
		return "", err
	}
	whole, ok := wholeNumber(string(sent))
	if !ok && !d.lenient {
		return "", fault{&Malformed{dotted(d.StackPointer()), fmt.Sprintf("must be an integer from %d to %d, not %s", math.MinInt64, math.MaxInt64, quoteShort(string(sent)))}}
	}
	return whole, nil
}

// once remembers the name by which a member is sent, and fails if it was sent by another
// name before.
func (d *decoder) once(sent *string, name string) error {
	if *sent != "" && *sent != name {
		return d.fail("is sent together with " + *sent + ": send one of them")
	}
	*sent = name
	return nil
}

// skip skips a member that is not known. It fails if the name is another spelling of one
// that is.
func (d *decoder) skip(name string, known ...string) error {
	if err := d.SkipValue(); err != nil {
		return err
	}
	folded := strings.ReplaceAll(name, "_", "")
	for _, k := range known {
		if strings.EqualFold(folded, strings.ReplaceAll(k, "_", "")) {
			return d.fail("is not known here: send it as " + k)
		}
	}
	return nil
}

// mustBe is the error of a value of another type.
func (d *decoder) mustBe(words string) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	return d.fail("must be " + words + ", not " + kindName(value.Kind()))
}

// fail is an error of the value that was read last.
func (d *decoder) fail(problem string) error { return &Malformed{dotted(d.StackPointer()), problem} }

// wholeNumber is the decimal digits of a JSON number in any spelling; not ok if it has a
// fraction, or does not fit 64 bits.
func wholeNumber(number string) (digits string, ok bool) {
	const most = 64 // characters; a longer number than 1.0 with many zeros is no id
	sign, exponent := "", 0
	mantissa, negative := strings.CutPrefix(number, "-")
	if negative {
		sign = "-"
	}
	if at := strings.IndexAny(mantissa, "eE"); at >= 0 {
		exponent, _ = strconv.Atoi(mantissa[at+1:]) // the largest int if it is larger
		mantissa = mantissa[:at]
	}
	if len(number) > most || max(exponent, -exponent) > most {
		return "", false
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	point := len(whole) + exponent
	all := strings.Repeat("0", max(-point, 0)) + whole + fraction + strings.Repeat("0", max(exponent, 0))
	point = max(point, 0)
	n, err := strconv.ParseInt(sign+"0"+all[:point], 10, 64)
	if err != nil || strings.Trim(all[point:], "0") != "" {
		return "", false
	}
	return strconv.FormatInt(n, 10), true
}
