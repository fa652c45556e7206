package pkcs11

import _ "github.com/ebitengine/purego"
