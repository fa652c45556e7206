package envelope

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"sync"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// strictCBOR knows one item with nothing after it, without indefinite lengths, at most maxDepth levels deep.
var strictCBOR = mustMode(cbor.DecOptions{
	DupMapKey:       cbor.DupMapKeyEnforcedAPF,
	IndefLength:     cbor.IndefLengthForbidden,
	MaxNestedLevels: maxDepth,
})

func mustMode(o cbor.DecOptions) cbor.DecMode {
	m, err := o.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}

// Major types (RFC 8949, 3.1).
const (
	cborUint  = 0
	cborNint  = 1
	cborBytes = 2
	cborText  = 3
	cborArray = 4
	cborMap   = 5
	cborTag   = 6
	cborOther = 7
)

// checkCBOR accepts one well-formed item whose integers, lengths, counts and tags are all written in their shortest form
// (RFC 8949, 4.2.1): then equal labels are equal bytes.
func checkCBOR(b []byte) error {
	if err := strictCBOR.Wellformed(b); err != nil {
		return err
	}
	// The heads of a well-formed item of definite length follow one another, strings apart.
	for len(b) > 0 {
		h, err := readHead(b)
		if err != nil {
			return err
		}
		b = b[h.size:]
		if h.major == cborBytes || h.major == cborText {
			b = b[h.arg:]
		}
	}
	return nil
}

// A head starts every item of CBOR.
type head struct {
	major byte
	arg   uint64
	size  int // bytes of the head itself
}

// readHead reads the head of an item that is known to be well-formed and definite.
func readHead(b []byte) (head, error) {
	if len(b) == 0 {
		return head{}, errors.New("nothing there")
	}
	h := head{major: b[0] >> 5, arg: uint64(b[0] & 0x1f), size: 1}
	if h.arg < 24 {
		return h, nil
	}
	if h.arg > 27 {
		return head{}, errors.New("indefinite length")
	}
	width := 1 << (h.arg - 24)
	if len(b) < 1+width {
		return head{}, errors.New("cut short")
	}
	h.size += width
	h.arg = 0
	for _, c := range b[1:h.size] {
		h.arg = h.arg<<8 | uint64(c)
	}
	// What follows major type 7 is a float or a simple value, not a number with a shorter form.
	least := map[int]uint64{1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[width]
	if h.major != cborOther && h.arg < least {
		return head{}, errors.New("an integer or a length is not in its shortest form")
	}
	return h, nil
}

// firstItem returns the bytes of the item that b starts with.
func firstItem(b []byte) ([]byte, error) {
	var item cbor.RawMessage
	rest, err := strictCBOR.UnmarshalFirst(b, &item)
	if err != nil {
		return nil, err
	}
	return b[:len(b)-len(rest)], nil
}

// An entry of a header map: its value's bytes stand at offset in the map's bytes.
type entry struct {
	label  any // int64 or string
	value  []byte
	offset int
}

// numericText is a text label that a person, or a careless reader, takes for an integer label.
var numericText = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[+-]?[0-9]+$`) })

// readMap returns the entries of a header map in their order. b has passed checkCBOR, alone or as part of a whole.
func readMap(b []byte) ([]entry, error) {
	h, err := readHead(b)
	if err != nil {
		return nil, err
	}
	if h.major != cborMap {
		return nil, errors.New("not a map")
	}
	var all []entry
	seen := map[any]bool{}
	at := h.size
	for range h.arg {
		key, err := firstItem(b[at:])
		if err != nil {
			return nil, err
		}
		at += len(key)
		label, err := readLabel(key)
		if err != nil {
			return nil, err
		}
		if seen[label] {
			return nil, fmt.Errorf("label %v is there twice", label)
		}
		seen[label] = true
		if s, ok := label.(string); ok && numericText().MatchString(s) {
			return nil, fmt.Errorf("text label %q looks like an integer label", s)
		}
		value, err := firstItem(b[at:])
		if err != nil {
			return nil, err
		}
		all = append(all, entry{label: label, value: value, offset: at})
		at += len(value)
	}
	if at != len(b) {
		return nil, errors.New("something after the map")
	}
	return all, nil
}

// readLabel reads a label: an integer or a text (RFC 9052, 1.5).
func readLabel(b []byte) (any, error) {
	h, err := readHead(b)
	if err != nil {
		return nil, err
	}
	switch {
	case h.major == cborText:
		return textValue(b)
	case h.major == cborUint && h.arg <= math.MaxInt64:
		return int64(h.arg), nil
	case h.major == cborNint && h.arg <= math.MaxInt64:
		return -1 - int64(h.arg), nil
	}
	return nil, errors.New("a label is neither an integer nor a text")
}

func textValue(b []byte) (string, error) {
	h, err := readHead(b)
	if err != nil {
		return "", err
	}
	if h.major != cborText {
		return "", errors.New("not a text string")
	}
	if !utf8.Valid(b[h.size:]) {
		return "", errors.New("not valid UTF-8")
	}
	return string(b[h.size:]), nil
}

// bytesValue reads a byte string that is not empty.
func bytesValue(b []byte) ([]byte, error) {
	h, err := readHead(b)
	if err != nil {
		return nil, err
	}
	if h.major != cborBytes {
		return nil, errors.New("not a byte string")
	}
	if h.arg == 0 {
		return nil, errors.New("an empty byte string")
	}
	return b[h.size:], nil
}

// arrayValue returns at most limit elements of an array.
func arrayValue(b []byte, limit int) ([][]byte, error) {
	h, err := readHead(b)
	if err != nil {
		return nil, err
	}
	if h.major != cborArray {
		return nil, errors.New("not an array")
	}
	var all [][]byte
	b = b[h.size:]
	for range min(h.arg, uint64(limit)) {
		item, err := firstItem(b)
		if err != nil {
			return nil, err
		}
		all = append(all, item)
		b = b[len(item):]
	}
	return all, nil
}
