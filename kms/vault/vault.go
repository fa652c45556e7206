package vault

import _ "github.com/openbao/openbao/api/v2"
