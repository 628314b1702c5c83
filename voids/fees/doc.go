// Package fees says which fee a merchant gets back when a payment is voided.
//
// It is pure: no file, no network, no clock. Amounts are in minor units of the table's currency,
// rates in millionths; nothing is computed in floating point.
//
// # The fee that is given back is the fee that was charged
//
// A void is of the whole payment, of the same day and before settlement, so all of the fee comes
// back: [Table.Fee] of the payment's amount, by the table that was in force when it was paid. A
// payment that was settled is refunded, not voided, and its fee is another matter (acquirers
// often keep it).
//
// # Rounding
//
// Half up, to the minor unit, then the cap. The market for which the rates of [Standard] are
// made rounds so: fees are charged 四舍五入, and before settlement given back 四舍五入 (the rules
// of Youzan, a payment service for merchants, bbs.youzan.com thread 666638, where 0.6 % is the
// rate); WeChat Pay rounds the shares of a refund likewise
// (pay.weixin.qq.com/docs/merchant/products/refund/introduction.html, 3.3). It is no law:
// Airwallex, for one, rounds half to even
// (airwallex.com/docs/payments__reporting__payments-rounding-logic). Who has such an acquirer
// takes the acquirer's figure, not this one.
package fees
