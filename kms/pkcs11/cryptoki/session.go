package cryptoki

import (
	"fmt"
	"unsafe"
)

// A Session is a connection to a token. It serves one goroutine at a time.
type Session struct {
	m      *Module
	handle uint
}

// An Object is a handle, valid in the sessions of its token.
type Object uint

// An Attribute is one condition of a search.
type Attribute struct {
	Type  uint
	Value []byte
}

// Number is an attribute whose value is a CK_ULONG.
func Number(typ, value uint) Attribute {
	b := make([]byte, unsafe.Sizeof(value))
	*(*uint)(unsafe.Pointer(&b[0])) = value // made by make of at least 8 bytes, hence aligned
	return Attribute{typ, b}
}

// OpenSession opens a read-only session with the token in a slot.
func (m *Module) OpenSession(slot uint) (*Session, error) {
	s := &Session{m: m}
	if err := check("C_OpenSession", m.f.openSession(slot, flagSerialSession, nil, nil, unsafe.Pointer(&s.handle))); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the session.
func (s *Session) Close() error { return check("C_CloseSession", s.m.f.closeSession(s.handle)) }

// Login shows the PIN to the token, once. A nil pin leaves asking to the token (protected authentication path).
func (s *Session) Login(user uint, pin []byte) error {
	return check("C_Login", s.m.f.login(s.handle, user, unsafe.Pointer(unsafe.SliceData(pin)), uint(len(pin))))
}

// Logout takes back what Login did, for all sessions of this process.
func (s *Session) Logout() error { return check("C_Logout", s.m.f.logout(s.handle)) }

// Find lists the objects that have all the attributes, at most 4096.
func (s *Session) Find(template ...Attribute) ([]Object, error) {
	attrs := make([]attribute, len(template))
	for i, a := range template {
		attrs[i] = attribute{a.Type, unsafe.Pointer(unsafe.SliceData(a.Value)), uint(len(a.Value))}
	}
	if err := check("C_FindObjectsInit", s.m.f.findObjectsInit(s.handle, unsafe.Pointer(unsafe.SliceData(attrs)), uint(len(attrs)))); err != nil {
		return nil, err
	}
	var found []Object
	var failed error
	batch := make([]uint, 64)
	for failed == nil {
		var n uint
		failed = check("C_FindObjects", s.m.f.findObjects(s.handle, unsafe.Pointer(&batch[0]), uint(len(batch)), unsafe.Pointer(&n)))
		if failed != nil || n == 0 {
			break
		}
		for _, h := range batch[:min(n, uint(len(batch)))] {
			found = append(found, Object(h))
		}
		if len(found) > maxObjects {
			failed = fmt.Errorf("the token shows more than %d objects", maxObjects)
		}
	}
	if err := check("C_FindObjectsFinal", s.m.f.findObjectsFinal(s.handle)); failed == nil {
		failed = err
	}
	if failed != nil {
		return nil, failed
	}
	return found, nil
}

// Attribute reads one attribute of an object; nil if the object has none of that type or does not show it.
func (s *Session) Attribute(o Object, typ uint) ([]byte, error) {
	a := attribute{typ: typ}
	switch code := s.m.f.getAttributeValue(s.handle, uint(o), unsafe.Pointer(&a), 1); {
	case code == attributeSensitive, code == attributeTypeInvalid, code == ok && a.length == unavailable, code == ok && a.length == 0:
		return nil, nil
	case code != ok:
		return nil, check("C_GetAttributeValue", code)
	case a.length > maxAttribute:
		return nil, fmt.Errorf("an attribute of the token takes %d bytes, at most %d are read", a.length, maxAttribute)
	}
	value := make([]byte, a.length)
	a.value = unsafe.Pointer(&value[0])
	if err := check("C_GetAttributeValue", s.m.f.getAttributeValue(s.handle, uint(o), unsafe.Pointer(&a), 1)); err != nil {
		return nil, err
	}
	return value[:min(a.length, uint(len(value)))], nil
}

// Number reads an attribute that is a CK_ULONG.
func (s *Session) Number(o Object, typ uint) (uint, error) {
	b, err := s.Attribute(o, typ)
	if err != nil {
		return 0, err
	}
	var n uint
	if len(b) != int(unsafe.Sizeof(n)) {
		return 0, fmt.Errorf("attribute %#x of the object is no number", typ)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&n)), unsafe.Sizeof(n)), b)
	return n, nil
}

// PSS are the parameters of [MechRSAPKCSPSS].
type PSS struct {
	Hash, MGF, Salt uint
}

// SignInit begins a signature; pss is nil but for [MechRSAPKCSPSS].
func (s *Session) SignInit(key Object, mech uint, pss *PSS) error {
	m := mechanism{mechanism: mech}
	if pss != nil {
		m.parameter, m.length = unsafe.Pointer(pss), uint(unsafe.Sizeof(*pss))
	}
	return check("C_SignInit", s.m.f.signInit(s.handle, unsafe.Pointer(&m), uint(key)))
}

// Sign ends the signature that SignInit began.
func (s *Session) Sign(data []byte) ([]byte, error) {
	sig := make([]byte, maxSignature)
	n := uint(len(sig))
	code := s.m.f.sign(s.handle, unsafe.Pointer(unsafe.SliceData(data)), uint(len(data)), unsafe.Pointer(&sig[0]), unsafe.Pointer(&n))
	if err := check("C_Sign", code); err != nil {
		return nil, err
	}
	return sig[:min(n, uint(len(sig)))], nil
}
