"""Unusual rows of a table: malignant tumors among measurements of benign ones, and the features that show it.

python anomalies.py
"""

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from elbo_vae import VAEDetector

data = load_breast_cancer(as_frame=True)
benign, malignant = data.data[data.target == 1], data.data[data.target == 0]
# Training rows are benign; the test has 57 others, and 20 malignant ones.
train, test = benign[:300], pd.concat([benign[300:], malignant[:20]])
is_malignant = np.r_[np.zeros(len(benign) - 300), np.ones(20)]

detector = VAEDetector(contamination=0.05, random_state=1, n_jobs=-1).fit(train)
unusual = -detector.decision_function(test)
auc = roc_auc_score(is_malignant, unusual)
flagged = detector.predict(test) == -1
print(f"area under the ROC curve: {auc:.3f}")
print(
    f"flagged: {int(flagged[is_malignant == 1].sum())} of 20 malignant tumors, "
    f"{int(flagged[is_malignant == 0].sum())} of {len(benign) - 300} benign ones"
)
assert auc > 0.9, "the scores do not tell malignant tumors"

# The features that contribute most to the highest scores, in nats.
nats = pd.DataFrame(-detector.score_features(test), index=test.index, columns=test.columns)
for place in np.argsort(unusual)[::-1][:3]:
    largest = nats.iloc[place].nlargest(3)
    reasons = ", ".join(f"{name} ({value:.1f} nats)" for name, value in largest.items())
    print(f"row {test.index[place]}: {unusual[place]:.1f} nats above the threshold; {reasons}")
